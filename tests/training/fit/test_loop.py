"""Training lowers the loss, stops early, and resumes after a kill with the same result."""

import io
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from training.config import Config
from training.data.datasets import Dataset, Split
from training.errors import UserError
from training.fit.checkpoint import load_checkpoint
from training.fit.loop import fit, start_run
from training.fit.progress import Progress
from training.fit.training_run import TrainingRun
from training.imaging.augmentation import Augmentation

KILLED = """
import itertools, json, os, signal, sys
from pathlib import Path
import torch
from tests.training.conftest import bars
from training.config import Config
from training.fit.learner import Learner
from training.fit.loop import fit

def die(learner, batches):
    if next(steps) == 15:  # of 24
        os.kill(os.getpid(), signal.SIGKILL)
    return remember(learner, batches)

torch.set_num_threads(1)
steps = itertools.count()
remember, Learner.train_step = Learner.train_step, die
fit(Config.from_json(json.loads(sys.argv[1])), bars(), Path(sys.argv[2]))
"""


def test_training_reaches_a_high_accuracy(quick: Config, strokes: Dataset, tmp_path: Path) -> None:
    """LeNet-5 separates upright and lying bars after ten epochs."""
    config = replace(quick, epochs=10, average=0.0, options={"activation": "relu"})
    assert fit(config, strokes, tmp_path)["val_accuracy"] > 0.9
    assert list((tmp_path / "log").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"schedule": "cosine", "warmup": 0.2, "freeze_epochs": 1, "layer_decay": 0.7, "clip": 1.0},
        {"precision": "fp16", "optimizer": "sgd", "learning_rate": 0.01, "best": "macro_f1"},
    ],
)
def test_a_killed_run_resumes_to_the_same_result(
    quick: Config, strokes: Dataset, tmp_path: Path, changes: dict[str, object]
) -> None:
    """A run killed in the middle of an epoch ends with the same weights and history, to the bit.

    This includes augmentation, dropout, accumulation, schedule, scaler and the moving average. Nor
    does it matter which process loads the pictures: the killed run has two workers, its
    continuation one, the other run none.
    """
    quick = replace(quick, batch_size=8, accumulate=2, **changes)  # type: ignore[arg-type]
    fit(replace(quick, workers=0), strokes, tmp_path / "whole")
    killed = replace(quick, workers=2)
    arguments = [json.dumps(killed.to_json()), str(tmp_path / "cut")]
    died = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=False,
    )
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()[-2000:]
    fit(replace(quick, workers=1), strokes, tmp_path / "cut", resume=True)
    whole, cut = (
        torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("whole", "cut")
    )
    for name, expected in whole["average"].items():
        assert torch.equal(expected, cut["average"][name])
    assert whole["scaler"] == cut["scaler"]
    for state in (whole, cut):
        for figures in state["history"]:
            del figures["seconds"]
    assert whole["history"] == cut["history"]


def test_accumulated_batches_make_the_steps_of_a_large_one(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """Two batches of 8 have the gradient of one of 16. The last step of an epoch may have fewer."""
    plain = replace(quick, average=0.0, augment=Augmentation(), options={}, optimizer="sgd")
    fit(replace(plain, batch_size=16), strokes, tmp_path / "one")
    fit(replace(plain, batch_size=8, accumulate=2), strokes, tmp_path / "two")
    one, two = (torch.load(tmp_path / n / "last.pt", weights_only=True) for n in ("one", "two"))
    for name, weight in one["model"].items():
        assert torch.allclose(weight, two["model"][name], atol=1e-6)
    run = start_run(replace(plain, batch_size=32, accumulate=2, epochs=1), strokes)
    assert run.batches == 3
    steps = count_steps(run)
    assert steps == 2


def count_steps(run: TrainingRun) -> int:
    """The number of steps that the optimizer takes in an epoch."""
    with Progress(1, run.batches) as progress:
        run.run_epoch(progress)
    return int(run.learner.schedule.last_epoch)


def test_half_precision_learns_with_a_scaler(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """Gradients are scaled, clipped after that, and the scale is kept with the run."""
    config = replace(quick, precision="fp16", epochs=6, clip=1.0)
    assert fit(config, strokes, tmp_path)["val_accuracy"] > 0.8
    assert torch.load(tmp_path / "last.pt", weights_only=True)["scaler"]["scale"] > 1


@pytest.mark.parametrize(
    ("changes", "measure"),
    [
        ({"best": "accuracy"}, "val_accuracy"),
        ({"best": "macro_f1"}, "val_macro_f1"),
        ({"best": "macro_roc_auc"}, "val_macro_roc_auc"),
        ({"best": "macro_roc_auc", "one_neuron": True}, "val_macro_roc_auc"),
    ],
)
def test_the_best_epoch_is_chosen_by_the_named_measure(
    quick: Config, strokes: Dataset, tmp_path: Path, changes: dict[str, object], measure: str
) -> None:
    """It is the first epoch with the highest value."""
    fit(replace(quick, **changes), strokes, tmp_path)  # type: ignore[arg-type]
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    values = [figures[measure] for figures in state["history"]]
    assert state["best"] == -max(values)
    assert state["best_epoch"] == 1 + values.index(max(values))
    kept = load_checkpoint(tmp_path / "best.pt")[3]
    assert kept["epoch"] == state["best_epoch"]


def test_several_labels_have_a_mean_average_precision(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """It chooses the best epoch. A perfect ranking has 1."""
    marked = {
        name: Split(split.pictures, np.eye(2, dtype=np.float32)[split.labels])
        for name, split in strokes.splits.items()
    }
    config = replace(quick, task="multilabel", best="mean_average_precision", average=0.0, epochs=8)
    figures = fit(config, Dataset(marked, strokes.labels), tmp_path)
    assert figures["val_mean_average_precision"] > 0.95


def test_a_run_that_is_no_terminal_prints_one_line_per_epoch(
    quick: Config, strokes: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """There are no bars on standard error."""
    fit(replace(quick, epochs=2), strokes, tmp_path)
    printed, errors = capfd.readouterr()
    assert [line.split(":")[0] for line in printed.splitlines()] == ["epoch 1", "epoch 2"]
    assert errors == ""


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_a_bar_for_the_run_and_one_for_the_epoch(
    quick: Config, strokes: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's bar says the time that is left."""
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    fit(replace(quick, epochs=2), strokes, tmp_path)
    assert "epoch 2/2" in terminal.getvalue()
    assert re.search(r"run: +\d+%.* left", terminal.getvalue())


def test_a_folder_with_a_run_needs_resume(quick: Config, strokes: Dataset, tmp_path: Path) -> None:
    """Without it the run is refused, so nothing is overwritten."""
    fit(replace(quick, epochs=1), strokes, tmp_path)
    with pytest.raises(UserError, match="--resume"):
        fit(replace(quick, epochs=1), strokes, tmp_path)


def test_training_stops_after_patience_epochs(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """It stops if the validation loss has not become lower in that many epochs."""
    config = replace(
        quick, epochs=50, patience=2, learning_rate=1e-12, weight_decay=0.0, average=0.0
    )
    fit(config, strokes, tmp_path)
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    assert state["epochs_done"] - state["best_epoch"] == 2
    assert state["epochs_done"] < 50


def test_a_loaded_checkpoint_gives_the_validated_accuracy(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """The checkpoint holds the averaged weights, on which validation ran."""
    fit(quick, strokes, tmp_path)
    config, labels, model, rest = load_checkpoint(tmp_path / "best.pt")
    assert (config.name, labels) == ("strokes", ("upright", "lying"))
    split = strokes.splits["val"]
    with torch.no_grad():
        found = model(torch.from_numpy(split.pictures)).argmax(1).numpy() == split.labels
    assert found.mean() == pytest.approx(rest["history"][rest["epoch"] - 1]["val_accuracy"])


def test_an_unreadable_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    """The sentence names the file."""
    (tmp_path / "best.pt").write_text("nothing")
    with pytest.raises(UserError, match=r"best.pt is not a readable checkpoint"):
        load_checkpoint(tmp_path / "best.pt")


def test_l1_makes_the_weights_smaller(quick: Config, strokes: Dataset, tmp_path: Path) -> None:
    """The sum of their absolute values is smaller than without the penalty."""
    sizes = []
    for name, l1 in (("without", 0.0), ("with", 1e-2)):
        fit(replace(quick, l1=l1, average=0.0), strokes, tmp_path / name)
        model = load_checkpoint(tmp_path / name / "best.pt")[2]
        last = torch.load(tmp_path / name / "last.pt", weights_only=True)["model"]
        sizes.append(sum(float(last[n].abs().sum()) for n, _ in model.named_parameters()))
    assert sizes[1] < 0.8 * sizes[0]
