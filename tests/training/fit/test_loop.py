"""Training lowers the loss, stops early, and resumes after a kill with the same result."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from training.config import Config
from training.data.datasets import Dataset
from training.errors import UserError
from training.fit.checkpoint import load_checkpoint
from training.fit.loop import fit

KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
from tests.training.conftest import bars
from training.config import Config
from training.fit.loop import fit
from training.fit.training_run import TrainingRun

def die(run):
    remember(run)
    if run.epochs_done == 2:
        os.kill(os.getpid(), signal.SIGKILL)

torch.set_num_threads(1)
remember, TrainingRun.update_average = TrainingRun.update_average, die
fit(Config.from_json(json.loads(sys.argv[1])), bars(), Path(sys.argv[2]))
"""


def test_training_reaches_a_high_accuracy(quick: Config, strokes: Dataset, tmp_path: Path) -> None:
    """LeNet-5 separates upright and lying bars after ten epochs."""
    config = replace(quick, epochs=10, average=0.0, options={"activation": "relu"})
    assert fit(config, strokes, tmp_path)["val_accuracy"] > 0.9
    assert list((tmp_path / "log").iterdir())


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(
    quick: Config, strokes: Dataset, tmp_path: Path
) -> None:
    """A run killed in the middle of an epoch ends with the same weights and history, to the bit.

    This includes augmentation, dropout and the moving average. Nor does it matter which process
    loads the pictures: the killed run has two workers, its continuation one, the other run none.
    """
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
    for name, expected in whole["kept"].items():
        assert torch.equal(expected, cut["kept"][name])
    for expected, found in zip(whole["history"], cut["history"], strict=True):
        assert expected["val_loss"] == found["val_loss"]


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
