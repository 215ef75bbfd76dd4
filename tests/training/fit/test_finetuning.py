"""Starting from weights: what is kept, what is new, what is frozen, and what comes out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.config import Config, load_config
from training.data.datasets import Dataset, Split
from training.errors import UserError
from training.fit.checkpoint import load_checkpoint
from training.fit.loop import fit
from training.fit.training_run import TrainingRun
from training.graph.compilation import compile_graph
from training.graph.session import open_session
from training.networks.classifier import build_classifier, prepare_classifier
from training.networks.heads import find_last_layer
from training.networks.weights import load_into_network, read_state_dict


@pytest.fixture
def resnet(tmp_path: Path) -> Config:
    """A ResNet-18 of 32-pixel pictures that starts from a file of weights for seven classes."""
    config = load_config("eurosat", ["input.height=32", "input.width=32", "input.resize=32"])
    config = replace(config, precision="fp32", epochs=2, batch_size=8, average=0.0, device="cpu")
    torch.manual_seed(3)
    state = build_classifier("resnet18", 7, config.input, config.options).network.state_dict()
    file = tmp_path / "weights.npz"
    np.savez(file, **{name: value.numpy() for name, value in state.items()})
    return replace(config, weights=str(file))


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


def test_only_the_head_is_new(resnet: Config) -> None:
    """Everything that fits is loaded; the last layer has the new number of classes."""
    model, head = prepare_classifier(resnet, 2)
    assert head == {"fc.weight", "fc.bias"}
    state = read_state_dict(Path(str(resnet.weights)))
    assert torch.equal(
        model.network.state_dict()["layer3.0.conv1.weight"], state["layer3.0.conv1.weight"]
    )
    assert model.network.state_dict()["fc.weight"].shape == (2, 512)


def test_the_head_is_known_behind_dropout(resnet: Config) -> None:
    """The layer moves into a sequence with the dropout; it is still what is new."""
    model, head = prepare_classifier(replace(resnet, dropout=0.5), 2)
    assert head == {"fc.1.weight", "fc.1.bias"}
    assert isinstance(model.network.get_submodule("fc.0"), nn.Dropout)


def test_frozen_then_unfrozen(resnet: Config, tiles: Dataset, tmp_path: Path) -> None:
    """In the first epoch the body keeps its weights and statistics; in the second it learns."""
    before = read_state_dict(Path(str(resnet.weights)))
    config = replace(resnet, freeze_epochs=1, body_rate=0.1)
    names = ("layer1.0.conv1.weight", "layer1.0.bn1.running_mean")
    fit(replace(config, epochs=1), tiles, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(state[f"network.{name}"], before[name]) for name in names)
    fit(config, tiles, tmp_path / "run", resume=True)
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["model"]
    assert not any(torch.equal(state[f"network.{name}"], before[name]) for name in names)


def test_the_body_learns_at_its_share_of_the_rate(resnet: Config, tiles: Dataset) -> None:
    """Two groups, two rates."""
    model, head = prepare_classifier(resnet, 2)
    run = TrainingRun(replace(resnet, body_rate=0.1), tiles, model, head, torch.device("cpu"))
    run.run_epoch()
    rates = [group["lr"] for group in run.optimizer.param_groups]
    assert rates[1] == pytest.approx(0.1 * rates[0])


def test_one_neuron_becomes_two_labels(resnet: Config, tiles: Dataset, tmp_path: Path) -> None:
    """Trained by one sigmoid, exported as two classes with opposite maps; balanced weights."""
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
    """Three are one sentence."""
    with pytest.raises(UserError, match="exactly two labels, the data set has 3"):
        prepare_classifier(replace(resnet, one_neuron=True), 3)


def test_several_labels_to_a_picture(resnet: Config, tiles: Dataset, tmp_path: Path) -> None:
    """Binary cross-entropy for each; probabilities by sigmoids in the file."""
    split = tiles.splits["train"]
    both = Split(split.pictures, np.stack([split.labels, 1 - split.labels], 1).astype(np.float32))
    data = Dataset(dict.fromkeys(("train", "val", "test"), both), ("light", "dark"))
    config = replace(resnet, task="multilabel", class_weights=True, epochs=1, weights=None)
    fit(config, data, tmp_path)
    model = load_checkpoint(tmp_path / "best.pt")[2]
    compiled = compile_graph(model, model.network, "layer4", split.pictures[:7], multilabel=True)
    logits, probabilities, _ = open_session(compiled.proto)(
        split.pictures[:7], np.empty((7, 0), np.int64)
    )
    assert np.allclose(probabilities, 1 / (1 + np.exp(-logits)), atol=1e-6)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_come_from_other_files_too(resnet: Config, tmp_path: Path, suffix: str) -> None:
    """PyTorch's own, under a trainer's key, and safetensors."""
    from safetensors.torch import save_file

    state = read_state_dict(Path(str(resnet.weights)))
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, file)
    else:
        save_file({k: v.contiguous() for k, v in state.items()}, file)
    found = read_state_dict(file)
    assert found.keys() == state.keys()
    assert torch.equal(found["fc.bias"], state["fc.bias"])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("w.npz", b"no", "is not a readable weights file"),
        ("w.pt", b"no", "is not a readable weights file"),
        ("w.safetensors", b"no", "is not a readable weights file"),
        ("w.onnx", b"no", "must be a .npz, .safetensors, .pt, .pth or .bin file"),
    ],
)
def test_broken_weights_are_one_sentence(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    """Whatever the file claims to be."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_state_dict(tmp_path / name)


def test_another_networks_weights_are_refused(resnet: Config) -> None:
    """All of them at import; and hardly fitting ones even when parts may be new."""
    state = read_state_dict(Path(str(resnet.weights)))
    other = build_classifier("squeezenet1_1", 7, resnet.input, {}).network
    with pytest.raises(UserError, match="do not match the network"):
        load_into_network(other, state)
    with pytest.raises(UserError, match="do not match the network"):
        load_into_network(other, state, partly=True)


def test_the_last_layer_of_a_network_without_any_is_one_sentence() -> None:
    """It says which network."""
    with pytest.raises(UserError, match="ReLU has no linear"):
        find_last_layer(nn.ReLU())
