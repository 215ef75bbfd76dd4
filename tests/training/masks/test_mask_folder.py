"""Pictures with masks are found, split and decoded, and what does not fit is refused by name."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.training.masks.conftest import SPEC, make_config, write_pictures
from training.data.datasets import load_dataset
from training.data.decoded.masks import MaskedPicture, read_mask, resize_mask
from training.data.mask_folder import MaskSplit
from training.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six pictures with masks."""
    write_pictures(tmp_path / "data", 6)
    return tmp_path / "data"


def change_mask(folder: Path, change: Callable[[Image.Image], Image.Image], ending: str) -> None:
    path = folder / "masks" / "03.png"
    changed = change(Image.open(path))
    path.unlink()
    changed.save(path.with_suffix(ending))


def set_value(mask: Image.Image) -> Image.Image:
    pixels = np.array(mask)
    pixels[0, 0] = 7
    return Image.fromarray(pixels)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing mask": (lambda f: (f / "masks" / "03.png").unlink(), "03.png has no mask"),
    "missing picture": (
        lambda f: (f / "images" / "03.png").unlink(),
        "masks/03.png is the mask of no picture",
    ),
    "other size": (
        lambda f: change_mask(f, lambda m: m.resize((10, 12)), ".png"),
        "masks/03.png is 10 x 12, its picture 64 x 40",
    ),
    "value": (
        lambda f: change_mask(f, set_value, ".png"),
        "masks/03.png has the value 7, but there are 3 labels",
    ),
    "RGB": (
        lambda f: change_mask(f, lambda m: m.convert("RGB"), ".png"),
        "masks/03.png has mode RGB",
    ),
    "JPEG": (lambda f: change_mask(f, lambda m: m, ".jpg"), "masks/03.jpg is a JPEG file"),
    "broken": (
        lambda f: (f / "masks" / "03.png").write_bytes(b"no picture"),
        "masks/03.png cannot be read",
    ),
    "no masks": (lambda f: shutil.rmtree(f / "masks"), "has no folder masks"),
    "twice": (
        lambda f: shutil.copy(f / "images" / "03.png", f / "images" / "03.bmp"),
        "differ in their ending only",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_refused_in_a_sentence_that_names_the_file(
    folder: Path, fault: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, sentence = FAULTS[fault]
    spoil(folder)
    with pytest.raises(UserError, match=sentence.replace(".", r"\.")):
        load_dataset(make_config(folder))


def test_one_folder_is_split_by_the_seed_and_folders_of_splits_are_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    config = replace(make_config(folder), validation=0.2, test=0.2)
    names = [list_names(load_dataset(replace(config, seed=seed)).splits) for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert sorted(stem for stems in names[0].values() for stem in stems) == [
        f"{i:02}" for i in range(6)
    ]
    for name in ("Train", "valid"):
        write_pictures(tmp_path / "given" / name, 4, seed=len(name))
    given = load_dataset(replace(config, data=str(tmp_path / "given")))
    assert {name: len(split) for name, split in given.splits.items()} == {"train": 4, "val": 4}


def list_names(splits: object) -> dict[str, list[str]]:
    assert isinstance(splits, dict)
    return {name: [pair.picture.stem for pair in split.files] for name, split in splits.items()}


def test_a_label_without_pixels_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    config = make_config(folder)
    with pytest.raises(UserError, match="the value 3 of the label 'star'"):
        load_dataset(replace(config, labels=(*config.labels, "star")))


def test_masks_keep_their_values_and_crops_ignore_what_they_lack() -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:15, 10:20], mask[0, 0] = 2, 255
    squashed = resize_mask(mask, SPEC)
    assert squashed.shape == (32, 48)
    assert set(np.unique(squashed)) == {0, 2, 255}
    cropped = resize_mask(mask, replace(SPEC, height=40, width=48, resize=20, crop="center"))
    assert (cropped[:10] == 255).all() == (cropped[:, :9] == 255).all() == True  # noqa: E712
    assert (cropped[10:30, 9:39][1:] == mask[1:]).all()


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png", "turned.tif"])
def test_a_picture_turned_by_exif_has_an_upright_mask(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / name, exif=exif)
    Image.new("P", (20, 30)).save(tmp_path / "mask.png")
    pair = MaskedPicture(tmp_path / name, tmp_path / "mask.png")
    assert read_mask(pair, 2).shape == (30, 20)


def test_a_copy_whose_mask_is_left_out_is_no_copy(tmp_path: Path) -> None:
    for seed, name in enumerate(("train", "val", "test")):
        write_pictures(tmp_path / name, 6, seed)
    for kind in ("images", "masks"):
        shutil.copy(tmp_path / "train" / kind / "03.png", tmp_path / "test" / kind / "03.png")
    (tmp_path / "train" / "masks" / "03.png").write_bytes(b"no picture")
    config = replace(make_config(tmp_path), skip_unreadable=True, skip_duplicates=True)
    splits = load_dataset(config).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 5, "val": 6, "test": 6}


def test_a_training_split_without_readable_masks_is_refused(folder: Path) -> None:
    split_folder = folder.parent / "split"
    for name in ("train", "val"):
        shutil.copytree(folder, split_folder / name)
    for path in (split_folder / "train" / "masks").iterdir():
        path.write_bytes(b"no picture")
    config = replace(make_config(split_folder), skip_unreadable=True)
    with pytest.raises(UserError, match="no picture with a mask that can be read in the split"):
        load_dataset(config)


def test_selected_rows_keep_their_files(exported: object) -> None:
    split = exported.test  # type: ignore[attr-defined]
    assert isinstance(split, MaskSplit)
    part = split.select(np.array([2, 0]))
    assert part.files == (split.files[2], split.files[0])
    assert np.array_equal(part.labels[0], split.labels[2])
