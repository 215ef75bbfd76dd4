"""Training from weights: what is loaded, what is new, what is frozen, and what is exported."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.config import Config
from training.data.datasets import Dataset, Split
from training.errors import UserError
from training.fit.checkpoint import load_checkpoint
from training.fit.loop import fit
from training.fit.progress import Progress
from training.fit.training_run import TrainingRun
from training.graph.compilation import GraphOptions, compile_graph
from training.graph.session import open_session
from training.networks.classifier import prepare_classifier
from training.networks.weight_files import read_state_dict


@pytest.fixture
def tiles() -> Dataset:
    """Two kinds of small colour pictures, unbalanced."""
    rng = np.random.default_rng(0)
    labels = (rng.random(32) < 0.3).astype(np.int64)
    pictures = rng.integers(0, 99, (32, 32, 32, 3), np.uint8) + (labels * 120).astype(
        np.uint8
    ).reshape(-1, 1, 1, 1)
    split = Split(pictures, labels)
    return Dataset({"train": split, "val": split, "test": split}, ("dark", "light"))


def test_only_the_head_is_not_loaded(resnet: Config) -> None:
    """Every matching tensor is loaded. The last layer has the new number of classes."""
    model, head = prepare_classifier(resnet, 2)
    assert head == {"fc.weight", "fc.bias"}
    state = read_state_dict(Path(str(resnet.weights)))
    assert torch.equal(
        model.network.state_dict()["layer3.0.conv1.weight"], state["layer3.0.conv1.weight"]
    )
    assert model.network.state_dict()["fc.weight"].shape == (2, 512)


def test_the_head_behind_dropout_is_still_the_head(resnet: Config) -> None:
    """Dropout and the last layer become one sequence, whose layer is the new head."""
    model, head = prepare_classifier(replace(resnet, dropout=0.5), 2)
    assert head == {"fc.1.weight", "fc.1.bias"}
    assert isinstance(model.network.get_submodule("fc.0"), nn.Dropout)


def test_the_body_is_frozen_for_freeze_epochs_only(
    resnet: Config, tiles: Dataset, tmp_path: Path
) -> None:
    """In the first epoch the body keeps weights and statistics. In the second it learns."""
    before = read_state_dict(Path(str(resnet.weights)))
    config = replace(resnet, freeze_epochs=1, body_rate=0.1)
    names = ("layer1.0.conv1.weight", "layer1.0.bn1.running_mean")
    fit(replace(config, epochs=1), tiles, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(state[f"network.{name}"], before[name]) for name in names)
    fit(config, tiles, tmp_path / "run", resume=True)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    assert not any(torch.equal(state[f"network.{name}"], before[name]) for name in names)


def test_the_body_has_body_rate_times_the_learning_rate(resnet: Config, tiles: Dataset) -> None:
    """Each part has two groups, because norms and biases have no weight decay."""
    model, head = prepare_classifier(resnet, 2)
    run = TrainingRun(replace(resnet, body_rate=0.1), tiles, model, head, torch.device("cpu"))
    with Progress(2, run.batches) as progress:
        run.run_epoch(progress)
    rates = [group["lr"] for group in run.learner.optimizer.param_groups]
    assert len(rates) == 4
    assert rates[0] == rates[1]
    assert rates[2] == rates[3] == pytest.approx(0.1 * rates[0])


def test_the_schedule_begins_when_the_body_is_unfrozen(resnet: Config, tiles: Dataset) -> None:
    """A head that learns alone has the full rate, and the rise follows."""
    model, head = prepare_classifier(resnet, 2)
    config = replace(resnet, epochs=3, freeze_epochs=1, schedule="onecycle", warmup=0.5)
    run = TrainingRun(config, tiles, model, head, torch.device("cpu"))
    assert run.learner.optimizer.param_groups[0]["lr"] == config.learning_rate
    with Progress(3, run.batches) as progress:
        assert run.run_epoch(progress)["learning_rate"] == config.learning_rate
        run.learner.begin_phase(1)
        assert run.learner.optimizer.param_groups[0]["lr"] == pytest.approx(
            config.learning_rate / 25
        )
        assert run.run_epoch(progress)["learning_rate"] > 0.9 * config.learning_rate
        assert run.run_epoch(progress)["learning_rate"] < 0.2 * config.learning_rate


@pytest.mark.slow
def test_one_neuron_is_exported_as_two_labels(
    resnet: Config, tiles: Dataset, tmp_path: Path
) -> None:
    """It is trained with one sigmoid and class weights; the two exported maps are opposite."""
    config = replace(resnet, one_neuron=True, class_weights=True, epochs=1)
    fit(config, tiles, tmp_path)
    raw, _ = prepare_classifier(replace(config, weights=None), 2)
    raw.network.load_state_dict(torch.load(tmp_path / "best.pt", weights_only=True)["weights"])
    model = load_checkpoint(tmp_path / "best.pt")[2]
    pictures = tiles.splits["test"].pictures[:8]
    with torch.no_grad():
        expected = raw.eval()(torch.from_numpy(pictures)).sigmoid()[:, 0].numpy()
    compiled = compile_graph(model, model.network, "layer4", pictures)
    _, probabilities, cam = open_session(compiled.proto)(pictures, np.tile([[0, 1]], (8, 1)))
    assert np.allclose(probabilities[:, 1], expected, atol=1e-5)
    assert np.allclose(cam[:, 0], -cam[:, 1], atol=1e-5 * np.abs(cam).max())


def test_one_neuron_needs_two_labels(resnet: Config) -> None:
    """A third label is refused in one sentence."""
    with pytest.raises(UserError, match="exactly two labels, the data set has 3"):
        prepare_classifier(replace(resnet, one_neuron=True), 3)


@pytest.mark.slow
def test_a_multilabel_network_has_a_sigmoid_per_label(
    resnet: Config, tiles: Dataset, tmp_path: Path
) -> None:
    """It is trained with binary cross-entropy. The model file computes the sigmoids."""
    split = tiles.splits["train"]
    both = Split(split.pictures, np.stack([split.labels, 1 - split.labels], 1).astype(np.float32))
    data = Dataset(dict.fromkeys(("train", "val", "test"), both), ("light", "dark"))
    config = replace(resnet, task="multilabel", class_weights=True, epochs=1, weights=None)
    fit(config, data, tmp_path)
    model = load_checkpoint(tmp_path / "best.pt")[2]
    compiled = compile_graph(
        model, model.network, "layer4", split.pictures[:7], GraphOptions(multilabel=True)
    )
    logits, probabilities, _ = open_session(compiled.proto)(
        split.pictures[:7], np.empty((7, 0), np.int64)
    )
    assert np.allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)
