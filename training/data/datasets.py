"""Labelled pictures as arrays, in memory or in files: MNIST, a folder of images, or a CSV table.

Knows nothing of batches, augmentation or networks.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from torchvision import datasets

from training.config import Config, get_data_folder
from training.data.decoded.pictures import DecodedRows, get_file_pictures
from training.data.duplicates import check_copies, find_copies
from training.data.splits import SplitRules, fill_splits
from training.errors import UserError
from training.imaging.preprocessing import Pixels


@dataclass(frozen=True)
class Split:
    """Pictures (N, H, W, C) uint8 and labels.

    These are (N,) int64, (N, K) float32 if multilabel, or masks (N, H, W) uint8.
    """

    pictures: Pixels  # or `DecodedRows`, which are read in the same way
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def class_shares(self, classes: int) -> np.ndarray:
        """The frequency of each class: (K,), as shares of the pictures, or of the masks' pixels."""
        if self.labels.ndim == 3:
            counts = sum(np.bincount(mask.ravel(), minlength=256) for mask in self.labels)
            counts = np.asarray(counts)[:classes]
            return np.asarray(counts / max(counts.sum(), 1))
        if self.labels.ndim == 2:
            return np.asarray(self.labels.mean(0))
        return np.bincount(self.labels, minlength=classes) / len(self.labels)

    def select(self, rows: np.ndarray) -> Self:
        """Some of the rows. Pictures and masks of files are not read."""
        return type(self)(select_rows(self.pictures, rows), select_rows(self.labels, rows))


def select_rows(values: Any, rows: np.ndarray) -> Any:
    """Some of the pictures, masks or labels."""
    return values.select(rows) if isinstance(values, DecodedRows) else values[rows]


@dataclass(frozen=True)
class Dataset:
    """The splits `train`, `val` and `test`, and the names of the labels."""

    splits: dict[str, Split]
    labels: tuple[str, ...]

    def has_split(self, name: str) -> bool:
        """Whether the split has pictures."""
        return name in self.splits and len(self.splits[name]) > 0

    def get_split(self, name: str) -> Split:
        """A split with at least one picture; UserError if there is none."""
        if not self.has_split(name):
            found = ", ".join(filter(self.has_split, self.splits))
            raise UserError(f"The data set has no pictures in the split {name!r}, only in {found}.")
        return self.splits[name]

    @property
    def measured_split(self) -> str:
        """The name of the split to measure on: `test`, or `val` if there is no test split."""
        return "test" if self.has_split("test") else "val"


def load_dataset(config: Config) -> Dataset:
    """Load the data set that a config names.

    Raises:
        UserError: there is no such data set, or a file in it cannot be read.
    """
    from training.data.mask_folder import load_mask_folder  # these build on this module
    from training.data.picture_table import load_csv_table, load_image_folder

    if config.task == "segmentation":
        return load_mask_folder(config)
    if config.data == "mnist":
        return load_mnist(make_split_rules(config))
    if config.data.endswith(".csv"):
        return load_csv_table(config)
    return load_image_folder(config)


def load_training_dataset(config: Config) -> Dataset:
    """Load the data set that a network is to be trained on.

    Raises:
        UserError: as `load_dataset`, or a file is in two splits.
    """
    data = load_dataset(config)
    if config.skip_duplicates:  # there are none left
        return data
    paths: list[Path] = []
    splits: list[str] = []
    for name, split in data.splits.items():
        if pictures := get_file_pictures(split.pictures):
            paths += [pictures.find_path(row) for row in range(len(split))]
            splits += [name] * len(split)
    check_copies(find_copies(paths, np.array(splits)), paths, np.array(splits))
    return data


def load_trained_dataset(config: Config, labels: tuple[str, ...]) -> Dataset:
    """Load the data set of a network that has been trained with these labels.

    Raises:
        UserError: the data set cannot be loaded, or its labels have changed since.
    """
    data = load_dataset(config)
    if data.labels == labels:
        return data
    before, now = (describe_labels(a, b) for a, b in ((labels, data.labels), (data.labels, labels)))
    raise UserError(
        f"The labels of {config.data} have changed: the network was trained with {before}, "
        f"now there are {now}. Restore the data set, or train again."
    )


def describe_labels(labels: tuple[str, ...], others: tuple[str, ...]) -> str:
    """The number of labels, and the first of those that are not among the others."""
    own = sorted(set(labels) - set(others))
    return f"{len(labels)} labels" + (f" ({own[0]} is one of them)" if own else "")


def make_split_rules(config: Config) -> SplitRules:
    """The config's rules of splitting.

    Raises:
        UserError: `fold` does not fit `folds`, or `group` has no files.
    """
    if config.folds == 1 or not bool(config.folds) <= config.fold <= config.folds:
        raise UserError(
            "`folds` must be 0 or at least 2 and `fold` from 1 to `folds`, got "
            f"folds={config.folds} and fold={config.fold}."
        )
    if config.group and config.data == "mnist":
        raise UserError("`group` needs picture files, and data=mnist has none. Remove `group`.")
    return SplitRules(config.validation, config.test, config.seed, config.folds, config.fold)


def load_mnist(rules: SplitRules) -> Dataset:
    """MNIST from its four original files. Torchvision downloads them if they are missing."""
    folder = get_data_folder() / "mnist"
    if not folder.is_dir():
        folder = download_mnist(get_data_folder())
    whole, test = (
        Split(
            read_idx_file(folder / f"{stem}-images-idx3-ubyte.gz")[..., None],
            read_idx_file(folder / f"{stem}-labels-idx1-ubyte.gz").astype(np.int64),
        )
        for stem in ("train", "t10k")
    )
    held = fill_splits(np.full(len(whole), "train"), whole.labels, rules) == "val"
    splits = {"train": whole.select(~held), "val": whole.select(held), "test": test}
    return Dataset(splits, tuple("0123456789"))


def download_mnist(folder: Path) -> Path:
    """The folder of MNIST's four files, after torchvision has downloaded them."""
    try:
        return Path(datasets.MNIST(str(folder), download=True).raw_folder)
    except (OSError, RuntimeError) as error:  # no network, or a download that was cut off
        raise UserError(
            f"MNIST cannot be downloaded: {error}. "
            "Set SIGHTGLASS_DATA to a folder that has its four files in mnist/."
        ) from error


def read_idx_file(path: Path) -> Pixels:
    """Read a gzipped idx file: two zeros, type, number of dimensions, sizes, values."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as error:
        raise UserError(f"{path} is not a readable gzipped idx file: {error}.") from error
    if content[:3] != b"\0\0\x08":
        raise UserError(f"{path} is not an idx file of unsigned bytes.")
    shape = np.frombuffer(content, ">i4", content[3], 4)
    return np.frombuffer(content, np.uint8, -1, 4 + 4 * content[3]).reshape(shape)
