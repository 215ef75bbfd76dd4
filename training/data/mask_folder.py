"""Pictures with masks: <split>/images/* and <split>/masks/*, or images/* and masks/* to be split.

A mask has the name of its picture and its size. The value of a pixel is the index of its class, and
255 is ignored. Knows nothing of networks or batches.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.config import Config, resolve_path
from training.data.datasets import Dataset, Split, make_split_rules
from training.data.decoded.masks import FileMasks, MaskedPicture
from training.data.decoded.pictures import find_readable, read_pictures
from training.data.decoded.store import DECODED, PixelStore, name_file
from training.data.picture_files import find_groups, list_pictures, list_subfolders
from training.data.picture_table import choose_stored, drop_copies
from training.data.splits import (
    ACCEPTED_NAMES,
    SPLIT_NAMES,
    SPLITS,
    check_groups,
    fill_splits,
)
from training.errors import UserError
from training.imaging.preprocessing import Input

IMAGES, MASKS = "images", "masks"


class MaskSplit(Split):
    """Pictures and masks in the network's size."""

    @property
    def files(self) -> tuple[MaskedPicture, ...]:
        """The files of each picture and of its mask."""
        masks: object = self.labels
        assert isinstance(masks, FileMasks)
        return masks.files


def load_mask_folder(config: Config) -> Dataset:
    """The data set of pictures with masks that a config names.

    Raises:
        UserError: the layout is not clear, or a mask does not fit its picture or the labels.
    """
    folder = resolve_path(config.data)
    listed = list_masked_splits(folder)
    rows = [(pair, split) for split, pairs in listed.items() for pair in pairs]
    pairs = [pair for pair, _ in rows]
    paths = [pair.picture for pair in pairs]
    given = np.array(["" if split == "all" else split for _, split in rows])
    groups = find_groups(paths, folder, config.group) if config.group else None
    alike = np.zeros(len(rows), np.int64)
    splits = fill_splits(given, alike, make_split_rules(config), groups)
    check_groups(groups, splits)
    whole, readable = read_masked_pictures(
        pairs,
        folder,
        config.input,
        len(config.labels),
        config.cache,
        config.skip_unreadable,
        choose_stored(splits, config),
    )
    splits[~readable] = ""
    if config.skip_duplicates:
        drop_copies(paths, splits)
    found = {name: whole.select(splits == name) for name in SPLITS if (splits == name).any()}
    check_classes(config, found)
    return Dataset(dict(found), config.labels)


def check_classes(config: Config, splits: dict[str, MaskSplit]) -> None:
    """Raise UserError if no training pixel has some class."""
    if "train" not in splits:
        raise UserError(
            f"{config.data} has no picture with a mask that can be read in the split 'train'."
        )
    missing = set(range(len(config.labels)))
    for mask in splits["train"].labels:  # most often the first few have all classes
        missing -= set(np.unique(mask).tolist())
        if not missing:
            return
    value = min(missing)
    raise UserError(
        f"No mask of {config.data} in the split 'train' has the value {value} of the label "
        f"{config.labels[value]!r}. Add one, or change `labels`."
    )


def list_masked_splits(folder: Path) -> dict[str, list[MaskedPicture]]:
    """The pictures of each split with their masks; without splits, as one split "all"."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}, neither here nor in the data folder.")
    inside = {path.name: path for path in list_subfolders(folder)}
    if IMAGES in inside:
        return {"all": list_masked_pictures(folder)}
    splits: dict[str, list[MaskedPicture]] = {}
    for name, path in inside.items():
        split = SPLIT_NAMES.get(name.lower())
        if split is None:
            raise UserError(
                f"{folder} must have the folders {IMAGES} and {MASKS}, or a folder for each split, "
                f"but {name} is neither. {ACCEPTED_NAMES}"
            )
        if split in splits:
            raise UserError(f"{folder} has two folders for the split {split}. Keep one of them.")
        splits[split] = list_masked_pictures(path)
    if "train" not in splits:
        raise UserError(f"{folder} has no folder train, and no folders {IMAGES} and {MASKS}.")
    return splits


def list_masked_pictures(folder: Path) -> list[MaskedPicture]:
    """The pictures in `images`, each with the mask of the same name in `masks`."""
    for name in (IMAGES, MASKS):
        if not (folder / name).is_dir():
            raise UserError(f"{folder} has no folder {name}. It must have {IMAGES} and {MASKS}.")
    pictures, masks = (index_by_stem(folder / name) for name in (IMAGES, MASKS))
    if not pictures:
        raise UserError(f"{folder / IMAGES} has no pictures. Add some, or remove the folder.")
    for missing in sorted(pictures.keys() - masks.keys()):
        raise UserError(
            f"{pictures[missing]} has no mask. Add {folder / MASKS / missing}.png, or remove the "
            "picture."
        )
    for missing in sorted(masks.keys() - pictures.keys()):
        raise UserError(
            f"{masks[missing]} is the mask of no picture. Add {folder / IMAGES / missing}.png, or "
            "remove the mask."
        )
    return [MaskedPicture(path, masks[stem]) for stem, path in sorted(pictures.items())]


def index_by_stem(folder: Path) -> dict[str, Path]:
    """The picture files of a folder by their path in it without the ending."""
    found: dict[str, Path] = {}
    for path in list_pictures(folder):
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in found:
            raise UserError(
                f"{found[stem]} and {path} differ in their ending only. Rename one of them."
            )
        found[stem] = path
    return found


def read_masked_pictures(
    pairs: Sequence[MaskedPicture],
    folder: Path,
    input_spec: Input,
    classes: int,
    cache: float,
    skip: bool = False,
    stored: NDArray[np.bool_] | None = None,
) -> tuple[MaskSplit, NDArray[np.bool_]]:
    """Pictures and masks in the network's size, and which of them can be read: (N,).

    Raises:
        UserError: some cannot, and `skip` is false.
    """
    paths = [pair.picture for pair in pairs]
    rules = ("masks", input_spec.to_card(), classes, str(folder.absolute()))
    store = PixelStore(rules, (input_spec.height, input_spec.width), cache)
    masks = FileMasks(
        tuple(pairs), input_spec, classes, store, np.full(len(pairs), DECODED, np.int64)
    )
    names = [name_file([pair.picture, pair.mask]) for pair in pairs]
    stored = np.ones(len(pairs), bool) if stored is None else stored
    masks.slots, faults = store.fill(names, masks.decode, stored)
    pictures, others = read_pictures(paths, folder, input_spec, cache, stored)
    readable = find_readable(faults | others, paths, skip)
    return MaskSplit(pictures.as_array(), masks.as_array()), readable
