"""Data sets are read and split, and a broken one is refused in one sentence."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import Config
from training.config_file import load_config
from training.data.datasets import (
    load_dataset,
    load_mnist,
    load_trained_dataset,
    read_idx_file,
)
from training.data.decoded import store
from training.data.image_folder import list_splits
from training.data.splits import SplitRules
from training.errors import UserError


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Decoded pictures go to a folder of the test's own."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(store, "CACHE_FOLDER", folder)
    return folder


def fill(folder: Path, count: int, level: int, mode: str = "RGB") -> None:
    """So many pictures of one brightness."""
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new(mode, (40, 30), level if mode == "L" else (level,) * 3).save(folder / f"{i}.png")


def config(folder: Path, *changes: str) -> Config:
    small = ["input.height=16", "input.width=16", "input.resize=16", f"data={folder}"]
    return load_config("eurosat", [*small, *changes])


def test_mnist_has_all_its_digits(data_dir: Path) -> None:
    """60,000 and 10,000 digits; a tenth of each class is held out."""
    splits = load_mnist(SplitRules(0.1, 0, 0)).splits
    assert data_dir.is_dir()
    assert len(splits["train"]) + len(splits["val"]) == 60_000
    assert len(splits["val"]) == pytest.approx(6_000, abs=5)
    assert len(splits["test"]) == 10_000
    shares = [splits[name].class_shares(10) for name in ("train", "val")]
    assert np.abs(shares[0] - shares[1]).max() < 1e-3
    assert splits["test"].labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_a_folder_with_splits_keeps_them(tmp_path: Path) -> None:
    """The labels are sorted by name. Gray pictures and names in any script are accepted."""
    for split, count in (("train", 6), ("val", 2), ("test", 3)):
        fill(tmp_path / split / "猫", count, 200)
        fill(tmp_path / split / "Hund", count, 20, "L")
    found = load_dataset(config(tmp_path))
    assert found.labels == ("Hund", "猫")
    assert {name: len(split) for name, split in found.splits.items()} == {
        "train": 12, "val": 4, "test": 6
    }  # fmt: skip
    train = found.splits["train"]
    assert train.pictures.shape == (12, 16, 16, 3)
    assert (np.asarray(train.pictures).mean((1, 2, 3)) > 100).tolist() == (
        train.labels == 1
    ).tolist()


def test_a_folder_without_splits_is_split_by_the_seed(tmp_path: Path) -> None:
    """A fifth of each label becomes the test split, a tenth the validation split."""
    fill(tmp_path / "a", 20, 10)
    fill(tmp_path / "b", 40, 99)
    once, again = (load_dataset(config(tmp_path, "test=0.2", "validation=0.1")) for _ in range(2))
    assert np.bincount(once.splits["test"].labels).tolist() == [4, 8]
    assert np.bincount(once.splits["val"].labels).tolist() == [2, 3]
    assert np.array_equal(once.splits["train"].pictures, again.splits["train"].pictures)


def test_other_files_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A message says so; hidden files are skipped silently."""
    fill(tmp_path / "a", 4, 10)
    fill(tmp_path / "b", 4, 99)
    (tmp_path / "a" / "notes.txt").write_text("mine")
    (tmp_path / "a" / ".DS_Store").write_bytes(b"\0")
    assert len(list_splits(tmp_path)["all"]) == 8
    assert "skipped 1 files that are not pictures (notes.txt" in capsys.readouterr().out


def test_a_corrupt_picture_is_named(tmp_path: Path, cache: Path) -> None:
    """The sentence names the file. When it is mended, the other files are not decoded again."""
    fill(tmp_path / "a", 4, 10)
    fill(tmp_path / "b", 4, 99)
    (tmp_path / "b" / "5.jpg").write_text("this is text")
    with pytest.raises(UserError, match=r"5\.jpg is not a picture"):
        load_dataset(config(tmp_path))
    (index,) = cache.glob("*.index")
    assert len(index.read_text().splitlines()) == 8
    Image.new("RGB", (8, 8)).save(tmp_path / "b" / "5.jpg")
    assert sum(map(len, load_dataset(config(tmp_path)).splits.values())) == 9
    assert len(index.read_text().splitlines()) == 9


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    """The sentence names the empty folder."""
    fill(tmp_path / "a", 4, 10)
    fill(tmp_path / "b", 4, 10)
    (tmp_path / "leer").mkdir()
    with pytest.raises(UserError, match="leer has no pictures"):
        list_splits(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_label_that_is_no_text_is_named_and_a_picture_may_have_any_name(tmp_path: Path) -> None:
    for label in ("a", "b"):
        fill(tmp_path / label, 4, 10)
    first = next((tmp_path / "a").iterdir())
    first.rename(tmp_path / "a" / os.fsdecode(b"z\xff.png"))
    assert sum(map(len, list_splits(tmp_path).values())) == 8
    fill(tmp_path / os.fsdecode(b"c\xff"), 4, 10)
    with pytest.raises(UserError, match="has a name that is not UTF-8"):
        list_splits(tmp_path)


def test_a_label_that_is_missing_in_train_is_named(tmp_path: Path) -> None:
    """In the validation split and in the test split."""
    for split, labels in (("train", "ab"), ("test", "abc")):
        for label in labels:
            fill(tmp_path / split / label, 2, 10)
    with pytest.raises(UserError, match="labels that are missing in train: c"):
        list_splits(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b no", b"\0\0"])
def test_a_broken_idx_file_is_named(content: bytes, tmp_path: Path) -> None:
    """It is one sentence and no traceback."""
    (tmp_path / "train.gz").write_bytes(content)
    with pytest.raises(UserError, match=r"train\.gz"):
        read_idx_file(tmp_path / "train.gz")


def test_a_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    """It is neither here nor in the data folder."""
    with pytest.raises(UserError, match="There is no folder"):
        load_dataset(config(tmp_path / "nowhere"))


@pytest.mark.parametrize("name", ["val", "Valid", "validation", "dev"])
def test_a_folder_without_a_test_split_is_measured_on_the_validation_split(
    tmp_path: Path, name: str
) -> None:
    """The validation split may have any of the usual names."""
    for label in "ab":
        fill(tmp_path / "training" / label, 4, 10)
        fill(tmp_path / name / label, 2, 10)
    found = load_dataset(config(tmp_path))
    assert found.splits.keys() == {"train", "val"}
    assert found.measured_split == "val"


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (("train/a", "train/b", "eval/a"), "but eval is not a split. Accepted names .* train"),
        (("train/a", "train/b", "val/a", "valid/a"), "two folders for the split val: val and"),
        (("val/a", "val/b", "test/a"), "has the splits test, val but no folder train"),
        (("train", "val"), "train must have a subfolder for each of at least two labels"),
    ],
)
def test_an_unclear_layout_is_refused(
    tmp_path: Path, folders: tuple[str, ...], sentence: str
) -> None:
    """The sentence names the folder."""
    for folder in folders:
        fill(tmp_path / folder, 2, 10)
    with pytest.raises(UserError, match=sentence):
        list_splits(tmp_path)


def test_a_label_may_be_called_train(tmp_path: Path) -> None:
    """It has pictures and no folders, and there are other labels."""
    for label in ("bus", "car", "train"):
        fill(tmp_path / label, 2, 10)
    assert {label for _, label in list_splits(tmp_path)["all"]} == {"bus", "car", "train"}


@pytest.mark.parametrize(
    ("count", "shares", "sizes"),
    [
        (2, (0.1, 0.0), {"train": 2, "val": 2}),
        (3, (0.1, 0.2), {"train": 2, "val": 2, "test": 2}),
        (6, (0.1, 0.2), {"train": 8, "val": 2, "test": 2}),
        (6, (0.99, 0.2), {"train": 2, "val": 8, "test": 2}),
        (6, (0.1, 0.0), {"train": 10, "val": 2}),
    ],
)
def test_each_label_has_pictures_in_each_split_if_there_are_enough(
    tmp_path: Path, count: int, shares: tuple[float, float], sizes: dict[str, int]
) -> None:
    """One at least, and the same share of each label."""
    fill(tmp_path / "a", count, 10)
    fill(tmp_path / "b", count, 99)
    found = load_dataset(config(tmp_path, f"validation={shares[0]}", f"test={shares[1]}"))
    assert {name: len(split) for name, split in found.splits.items()} == sizes
    assert all((split.class_shares(2) == 0.5).all() for split in found.splits.values())


def test_hidden_folders_are_skipped(tmp_path: Path) -> None:
    """Copies that an editor or a system made must not land in another split."""
    for label in "ab":
        for hidden in ("", ".ipynb_checkpoints", "__MACOSX", "@eaDir/1.png", "deep/.cache/x"):
            fill(tmp_path / label / hidden, 2, 10) if hidden else None
        for i in range(3):
            Image.new("L", (4, 4)).save(tmp_path / label / f"{i}.png")
        (tmp_path / label / "Thumbs.db").write_bytes(b"\0")
        (tmp_path / label / "._1.png").write_bytes(b"\0")
    fill(tmp_path / "__MACOSX" / "a", 2, 10)
    assert len(list_splits(tmp_path)["all"]) == 6


def test_links_to_folders_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each folder once: links that lead back up, or to the same folder again, are skipped."""
    fill(tmp_path / "set" / "a", 2, 10)
    fill(tmp_path / "set" / "b", 2, 10)
    fill(tmp_path / "elsewhere" / "more", 3, 10)
    (tmp_path / "set" / "a" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "a" / "again").symlink_to(tmp_path / "elsewhere" / "more")
    (tmp_path / "set" / "a" / "up").symlink_to("..")
    (tmp_path / "set" / "c").symlink_to(tmp_path / "elsewhere" / "more")
    labels = [label for _, label in list_splits(tmp_path / "set")["all"]]
    assert {label: labels.count(label) for label in labels} == {"a": 5, "b": 2, "c": 3}
    assert "up: skipped, it is a link to" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["a/5.png", "a/more", "c"])
def test_a_link_to_nothing_is_named(tmp_path: Path, place: str) -> None:
    """Pictures on a disk that is not mounted would be missing without a word."""
    fill(tmp_path / "a", 2, 10)
    fill(tmp_path / "b", 2, 10)
    (tmp_path / place).symlink_to(tmp_path / "gone")
    with pytest.raises(UserError, match=f"{place} is a link to .*gone, which does not exist"):
        list_splits(tmp_path)


def test_labels_that_have_changed_since_the_training_are_refused(tmp_path: Path) -> None:
    """A new folder would give every later label another number."""
    for label in "ac":
        fill(tmp_path / label, 4, 10)
    assert load_trained_dataset(config(tmp_path), ("a", "c")).labels == ("a", "c")
    fill(tmp_path / "b", 4, 10)
    with pytest.raises(UserError, match=r"with 2 labels, now there are 3 labels \(b is one"):
        load_trained_dataset(config(tmp_path), ("a", "c"))
