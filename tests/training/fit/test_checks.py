"""Data, network and settings that do not suit each other are refused before the first epoch."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.conftest import COLOR
from training.config import Config
from training.config_file import check_combinations
from training.data.datasets import Dataset, Split
from training.errors import UserError
from training.fit.checkpoint import load_checkpoint
from training.fit.distributed import check_device
from training.fit.loop import fit, start_run
from training.imaging.augmentation import Augmentation
from training.networks.classifier import Classifier
from training.networks.trial import check_logits


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"options": {"batch_norm": True}, "batch_size": 1}, "needs at least 2 pictures per step"),
        ({"layer": "features.act9"}, "no layer `features.act9`. Did you mean `features.act"),
        ({"options": {"foo": 1}}, "There is no setting `options.foo`. Accepted are: activation"),
        ({"options": {"activatoin": "relu"}}, "Did you mean `options.activation`"),
        ({"options": {"depth": 1}}, "`options.depth` must be an integer of at least 2, got 1."),
        ({"architecture": "lenet6"}, "There is no architecture 'lenet6'. Did you mean lenet5"),
        ({"architecture": "resnet18", "options": {"stem": "smal"}}, "must be imagenet or small"),
        ({"architecture": "resnet18", "options": {"foo": 1}}, "no setting `options.foo`"),
        ({"architecture": "resnet18"}, "resnet18 does not run on pictures of 28 x 28 x 1: "),
        ({"architecture": "tests.training.fit.test_checks:fail"}, "raised KeyError: 'no'"),
        ({"architecture": "tests.training.fit.test_checks:needy"}, "missing a required argument"),
    ],
)
def test_a_network_that_does_not_suit_is_refused(
    quick: Config, strokes: Dataset, changes: dict[str, object], sentence: str
) -> None:
    """Its batches, layer, options and input; an error in the user's own function."""
    config = replace(quick, **{"options": {}, **changes})  # type: ignore[arg-type]
    with pytest.raises(UserError) as refused:
        start_run(config, strokes)
    assert sentence in str(refused.value)


def fail() -> nn.Module:
    raise KeyError("no")


def needy(classes: int) -> nn.Module:
    return nn.Linear(1, classes)


def test_pictures_of_another_size_than_the_input_are_refused(
    quick: Config, strokes: Dataset
) -> None:
    """MNIST's digits keep their size whatever `input` says."""
    config = replace(quick, input=replace(quick.input, height=32))
    with pytest.raises(UserError, match="are 28 x 28 x 1, but `input` describes 32 x 28 x 1"):
        start_run(config, strokes)


@pytest.mark.parametrize("empty", [True, False])
def test_training_needs_a_validation_split(quick: Config, strokes: Dataset, empty: bool) -> None:
    """It may be missing or empty."""
    splits = dict(strokes.splits)
    splits["val"] = splits["val"].select(torch.arange(0).numpy())
    if not empty:
        del splits["val"]
    with pytest.raises(UserError, match="no pictures for the split 'val'"):
        start_run(quick, Dataset(splits, strokes.labels))


def test_the_network_must_return_one_logit_per_label(
    small: Callable[[nn.Module], Classifier],
) -> None:
    """Another number of outputs is refused with both numbers."""
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
    with pytest.raises(UserError, match=r"mine must return logits of shape \(N, 2\).* \(1, 3\)"):
        check_logits("mine", COLOR, 2, small(head))
    with pytest.raises(UserError, match=r"mine returns a tuple. It must return logits alone"):
        check_logits("mine", COLOR, 2, small(Pair()))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("dropout_left_on", r"draws random numbers in eval\(\)"),
        ("norm_of_the_batch", "uses the statistics of the batch"),
        ("sigmoid_layer", "ends with a sigmoid"),
    ],
)
def test_a_network_that_cannot_be_exported_is_not_trained(
    quick: Config, strokes: Dataset, name: str, sentence: str
) -> None:
    """It is refused by its cause before the first epoch."""
    config = replace(
        quick, architecture=f"tests.training.odd_networks:{name}", options={},
        input=replace(COLOR, height=28, width=28), one_neuron=name == "sigmoid_layer",
    )  # fmt: skip
    labels = ("a", "b") if config.one_neuron else ("a", "b", "c")
    with pytest.raises(UserError, match=sentence):
        start_run(config, in_color(strokes, labels))


def test_an_average_needs_a_network_that_can_be_copied(quick: Config, strokes: Dataset) -> None:
    """Torch copies no weights of the old weight norm."""
    config = replace(
        quick, architecture="tests.training.odd_networks:wrapped", options={}, average=0.9,
        input=replace(COLOR, height=28, width=28),
    )  # fmt: skip
    with pytest.raises(UserError, match=r"average=0\.9 needs a copy .* or set average=0"):
        start_run(config, in_color(strokes, ("a", "b", "c")))


def in_color(data: Dataset, labels: tuple[str, ...]) -> Dataset:
    """The gray pictures of a data set in three equal channels."""
    return Dataset(
        {n: Split(np.repeat(s.pictures, 3, 3), s.labels) for n, s in data.splits.items()}, labels
    )


class Pair(nn.Module):
    """A head that returns features and logits."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x.mean((2, 3))


@pytest.mark.parametrize("name", ["cuda:99", "cuda:7"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    """With the number of devices that torch finds."""
    with pytest.raises(UserError, match=f"device={name} is not available: torch finds"):
        check_device(name)


def test_a_loss_that_is_not_finite_stops_the_run(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """In the first such epoch, without a checkpoint of it."""
    config = replace(quick, learning_rate=1e30, optimizer="sgd", average=0.0)
    with pytest.raises(UserError, match="The loss is not finite after 6 steps of epoch 1: nan"):
        fit(config, strokes, tmp_path)
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize(
    ("changes", "labels", "sentence"),
    [
        ({"architecture": "squeezenet1_1", "options": {}}, None, "has architecture='lenet5'"),
        ({"options": {"activation": "tanh"}}, None, "has options="),
        ({"optimizer": "sgd"}, None, "has optimizer='adamw', the config has 'sgd'"),
        ({}, ("a", "b"), r"has labels=\('upright', 'lying'\)"),
    ],
)
def test_a_run_resumes_only_with_its_own_network_and_labels(
    quick: Config,
    strokes: Dataset,
    tmp_path: Path,
    changes: dict[str, object],
    labels: tuple[str, ...] | None,
    sentence: str,
) -> None:
    """Architecture, options, optimizer and labels must stay."""
    config = replace(quick, epochs=1, input=replace(quick.input, mode="L"))
    state = start_run(config, strokes).state_dict()
    torch.save(state, tmp_path / "last.pt")
    other = replace(config, **changes)  # type: ignore[arg-type]
    if changes.get("architecture"):
        other = replace(other, architecture="tests.training.fit.test_checks:flat")
    with pytest.raises(UserError, match=sentence):
        fit(other, Dataset(strokes.splits, labels or strokes.labels), tmp_path, resume=True)


def flat() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 28), nn.Flatten())


def test_a_run_of_an_earlier_version_is_not_resumed(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """One sentence says so, and what can be done with its best state."""
    state = start_run(replace(quick, epochs=1), strokes).state_dict()
    torch.save({k: v for k, v in state.items() if k != "scaler"}, tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"earlier version and cannot be resumed.*best\.pt"):
        fit(quick, strokes, tmp_path, resume=True)


@pytest.mark.parametrize("best", ["miou", "mean_average_precision", "f1"])
def test_the_best_measure_suits_the_task(quick: Config, best: str) -> None:
    """Another one is refused with those that do."""
    accepted = "loss, accuracy, macro_f1 or macro_roc_auc for task=multiclass"
    with pytest.raises(UserError, match=f'`best` must be {accepted}, got "{best}"'):
        check_combinations(replace(quick, best=best))


def test_the_best_measure_must_be_defined(quick: Config, strokes: Dataset) -> None:
    """A validation split of one class has no ROC-AUC."""
    val = strokes.splits["val"]
    splits = {**strokes.splits, "val": val.select(np.flatnonzero(val.labels == 0))}
    with pytest.raises(UserError, match=r"best=\"macro_roc_auc\" is not defined"):
        start_run(replace(quick, best="macro_roc_auc"), Dataset(splits, strokes.labels))


def test_norms_are_synchronised_on_gpus_only(quick: Config, strokes: Dataset) -> None:
    """Torch cannot do it on a CPU."""
    with pytest.raises(UserError, match="sync_batch_norm=True works on GPUs only"):
        start_run(replace(quick, sync_batch_norm=True), strokes)


def test_a_compiler_without_tools_is_one_sentence(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """It says what is missing and what to do."""
    config = replace(quick, compile=True, epochs=1)
    no_compiler = torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/g++")})
    with no_compiler, pytest.raises(UserError, match=r"compile=True failed: .*/nowhere/g\+\+"):
        fit(config, strokes, tmp_path)
    torch.compiler.reset()


@pytest.mark.slow
def test_a_compiled_network_learns_and_is_kept_as_it_was(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """Its checkpoint has the names of the network's own weights, and the same answers."""
    config = replace(quick, epochs=2, average=0.0, augment=Augmentation(), options={})
    plain = fit(config, strokes, tmp_path / "plain")
    compiled = fit(replace(config, compile=True), strokes, tmp_path / "compiled")
    assert compiled["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-3)
    names = [
        load_checkpoint(tmp_path / run / "best.pt")[2].state_dict().keys()
        for run in ("plain", "compiled")
    ]
    assert names[0] == names[1]
    torch.compiler.reset()
