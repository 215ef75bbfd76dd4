"""`fit` refuses folders with faults in one sentence, before the first epoch, with exit code 2."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.__main__ import main
from training.data.decoded import store
from training.data.picture_files import list_readable_suffixes
from training.fit.checkpoint import load_checkpoint

Fit = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two labels in three splits, with six, two and two noisy pictures each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        for label in "ab":
            (tmp_path / "set" / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (30, 30, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "set" / split / label / f"{i}.png")
    return tmp_path / "set"


@pytest.fixture
def fit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Trains LeNet-5 on the folder for one epoch."""
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")
    config = tmp_path / "mine.py"
    config.write_text(
        "from training.config import Config\n"
        "from training.imaging.preprocessing import Input\n"
        f"CONFIG = Config('mine', 'lenet5', {str(folder)!r}, Input('RGB', 28, 28, 28), "
        "epochs=1, batch_size=4, device='cpu')\n"
    )

    def run(*arguments: object) -> int:
        call = ["training", "fit", config, "--out", tmp_path / "run", *arguments]
        monkeypatch.setattr(sys, "argv", [*map(str, call)])
        return main()

    return run


def read_error(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that is left after progress bars."""
    said = capsys.readouterr().err.strip().rpartition("\r")[2].strip()
    assert len(said.splitlines()) == 1
    return said


def test_all_unreadable_pictures_are_listed_at_once(
    folder: Path, fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And left out with --skip-unreadable, also when the run is evaluated."""
    whole = (folder / "train/a/0.png").read_bytes()
    (folder / "train/a/cut.png").write_bytes(whole[:500])
    (folder / "test/b/text.jpg").write_text("no picture")
    assert fit() == 2
    said = read_error(capsys)
    assert "2 of 22 pictures cannot be read" in said
    assert "train/a/cut.png" in said
    assert "test/b/text.jpg" in said
    assert "--skip-unreadable" in said
    assert not (tmp_path / "run").exists()
    assert fit("--skip-unreadable") == 0
    assert "skipped 2 pictures that cannot be read" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "run" / "best.pt")[0].skip_unreadable


def test_a_picture_in_two_splits_is_refused(
    folder: Path, fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its content, whatever its name, and also behind a link."""
    (folder / "train/a/copy.png").write_bytes((folder / "test/a/1.png").read_bytes())
    (folder / "val/b/link.png").symlink_to(folder / "test/b/0.png")
    assert fit() == 2
    said = read_error(capsys)
    assert "2 files are in two splits" in said
    assert "train/a/copy.png (train)" in said
    assert "test/a/1.png (test) have the same content" in said
    assert "--skip-duplicates" in said
    assert fit("--skip-duplicates") == 0
    assert "skipped 2 files that are in another split" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["group=(x"], "`group` must be a column of the CSV file or a regular expression"),
        (["group=^[a-z]+/a"], "finds nothing in test/b/0.png"),
        (["group=/[ab]/"], "The group '/a/' is in the splits 'test' and 'train'"),
        (["folds=3", "fold=4"], "`fold` from 1 to `folds`"),
        (["augment.mixup=0.2", "loss=focal"], "augment.mixup needs task=multiclass"),
        (["workers=-1"], "`workers` must be an integer of at least 0 or None, got -1."),
        (["cache=-1"], "`cache` must be a number of at least 0, got -1."),
    ],
)
def test_settings_that_do_not_suit_are_one_sentence(
    fit: Fit, capsys: pytest.CaptureFixture[str], changes: list[str], sentence: str
) -> None:
    assert fit(*(part for change in changes for part in ("--set", change))) == 2
    assert sentence in read_error(capsys)


def test_a_folder_that_cannot_be_written_is_one_sentence(
    fit: Fit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Decoded pictures are stored there."""
    (tmp_path / "cache").write_text("a file")
    assert fit() == 2
    assert "Decoded pictures cannot be written to" in read_error(capsys)


def test_a_fold_is_what_is_validated(folder: Path, fit: Fit, tmp_path: Path) -> None:
    """The labels are folders, and each fold trains."""
    for split in ("val", "test"):
        for path in [*(folder / split).rglob("*.png")]:
            path.rename(folder / "train" / path.parent.name / f"{split}{path.name}")
    for label in "ab":
        (folder / "train" / label).rename(folder / label)
    for name in ("train", "val", "test"):
        for path in sorted((folder / name).rglob("*"), reverse=True):
            path.rmdir()
        (folder / name).rmdir()
    changes = ["folds=2", "fold=2", "test=0", "augment.resized_crop=0.5", "workers=1"]
    assert fit(*(part for change in changes for part in ("--set", change))) == 0
    assert load_checkpoint(tmp_path / "run" / "best.pt")[0].fold == 2


def test_pictures_of_phones_are_listed_also_without_their_extra() -> None:
    assert {".heic", ".heif", ".jpg"} <= list_readable_suffixes()
