"""Data sets of picture files: a folder of images, or a CSV table, divided into splits.

Knows nothing of batches, augmentation or networks.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.config import DEFAULT_CACHE, Config, resolve_path
from training.data.csv_table import read_csv_table
from training.data.datasets import Dataset, Split, make_split_rules
from training.data.decoded.pictures import find_readable, read_pictures
from training.data.duplicates import find_copies
from training.data.image_folder import Listing, list_splits
from training.data.picture_files import find_groups
from training.data.splits import SPLITS, check_groups, fill_splits
from training.errors import UserError
from training.imaging.preprocessing import Input


@dataclass(frozen=True)
class PictureTable:
    """The files of a data set before they are read."""

    owner: Path  # the folder or the CSV file that lists them
    paths: list[Path]
    given: NDArray[np.str_]  # (N,): the split of each picture, or "" everywhere
    truth: NDArray[Any]  # (N,) classes, or (N, K) of 0 and 1
    labels: tuple[str, ...]
    groups: list[str] | None  # the group of each picture


def load_image_folder(config: Config) -> Dataset:
    """A folder of images. Missing splits are held out of training, stratified by label."""
    folder = resolve_path(config.data)
    listed = list_splits(folder)
    labels = tuple(sorted({label for rows in listed.values() for _, label in rows}))
    indices = {label: index for index, label in enumerate(labels)}
    rows = [(path, label, split) for split, rows in listed.items() for path, label in rows]
    truth = np.array([indices[label] for _, label, _ in rows])
    given = np.array(["" if split == "all" else split for _, _, split in rows])
    paths = [path for path, _, _ in rows]
    groups = find_groups(paths, folder, config.group) if config.group else None
    return assemble_dataset(PictureTable(folder, paths, given, truth, labels, groups), config)


def load_split(folder: Path, rows: Listing, labels: tuple[str, ...], input_spec: Input) -> Split:
    """The listed pictures of a folder; each label becomes its index in `labels`."""
    truth = np.array([labels.index(label) for _, label in rows])
    paths = [path for path, _ in rows]
    pictures, faults = read_pictures(paths, folder, input_spec, DEFAULT_CACHE)
    find_readable(faults, paths)
    return Split(pictures.as_array(), truth)


def load_csv_table(config: Config) -> Dataset:
    """A CSV with labels of the pictures in its folder, and an optional column `split`.

    With `task="multilabel"` a picture may have several labels, and labels are (N, K). Otherwise
    each row must have one label.
    """
    path = resolve_path(config.data)
    rows, labels = read_csv_table(path, config.group)
    if len(labels) < 2:
        raise UserError(
            f"{path} has only the label {labels[0]!r}, at least two are needed. "
            "For yes or no, give it a column `label` with two values."
        )
    marks = np.array([row.marks for row in rows], np.float32)  # (N, K)
    several = config.task == "multilabel"
    odd = np.flatnonzero(marks.sum(1) != 1)
    if not several and len(odd):
        raise UserError(
            f"{path}, line {rows[odd[0]].line}: the picture must have exactly one label. "
            "For several labels per picture set task=multilabel."
        )
    given = np.array([row.split for row in rows])
    truth = marks if several else marks.argmax(1)
    files = [row.file for row in rows]
    groups = [row.group for row in rows] if config.group else None
    if groups and not any(groups):  # no column has this name
        groups = find_groups(files, path.parent, config.group)
    return assemble_dataset(PictureTable(path, files, given, truth, labels, groups), config)


def assemble_dataset(table: PictureTable, config: Config) -> Dataset:
    """Fill in the missing splits, and decode the pictures that are not decoded yet.

    Raises:
        UserError: a label has too few pictures, or a picture cannot be decoded.
    """
    alike = table.truth if table.truth.ndim == 1 else np.zeros(len(table.paths), np.int64)
    splits = fill_splits(table.given, alike, make_split_rules(config), table.groups)
    check_groups(table.groups, splits)
    check_labels(table, splits, config)
    stored = choose_stored(splits, config)
    pictures, faults = read_pictures(table.paths, table.owner, config.input, config.cache, stored)
    splits[~find_readable(faults, table.paths, config.skip_unreadable)] = ""
    if config.skip_duplicates:
        drop_copies(table.paths, splits)
    check_labels(table, splits, config)
    chosen = {name: np.flatnonzero(splits == name) for name in SPLITS}
    return Dataset(
        {
            name: Split(pictures.select(rows).as_array(), table.truth[rows])
            for name, rows in chosen.items()
            if len(rows)
        },
        table.labels,
    )


def choose_stored(splits: NDArray[np.str_], config: Config) -> NDArray[np.bool_]:
    """The pictures to store: all but those whose files are cropped at random in each epoch."""
    cropped = (splits == "train") & bool(config.augment.resized_crop)
    return np.asarray(~cropped)


def drop_copies(paths: list[Path], splits: NDArray[np.str_]) -> None:
    """Leave out the files that are also in a higher split, and say so."""
    copies = find_copies(paths, splits)
    splits[[*copies]] = ""
    if copies:
        first, other = min(copies.items())
        tqdm.write(
            f"skipped {len(copies)} files that are in another split, too ({paths[first]} is "
            f"{paths[other]}, …)"
        )


def check_labels(table: PictureTable, splits: NDArray[np.str_], config: Config) -> None:
    """Raise UserError if a label has no picture to train on, or none in a split held out for it."""
    several = table.truth.ndim == 2
    shares = {"val": config.validation or config.folds}
    if (table.given == "").all():
        shares["test"] = config.test
    held = [name for name, share in shares.items() if share and name not in table.given]
    for name in ["train"] if several else ["train", *held]:
        truth = table.truth[splits == name]
        counts = truth.sum(0) if several else np.bincount(truth, minlength=len(table.labels))
        if counts.all():
            continue
        index = int(np.flatnonzero(counts == 0)[0])
        label = table.labels[index]
        if name == "train":
            raise UserError(
                f"{config.data} has no picture with the label {label!r} in the split 'train'. "
                "Add one, or remove the label."
            )
        count = int((table.truth[splits != ""] == index).sum())
        raise UserError(
            f"{config.data} has {count} pictures with the label {label!r}, too few for the split "
            f"{name!r}. Add pictures or groups, remove the label, or hold out no such split."
        )
