"""Labelled pictures as arrays, in memory or on disk: MNIST, a folder of images, or a CSV table.

Knows nothing of batches, augmentation or networks.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torchvision import datasets

from training.config import Config, get_data_folder, resolve_path
from training.data.csv_table import read_csv_table
from training.data.image_folder import Listing, decode_pictures, list_splits
from training.data.splits import SPLITS, fill_splits, sample_held_out
from training.errors import UserError
from training.imaging.preprocessing import Input, Pixels


@dataclass(frozen=True)
class Split:
    """Pictures (N, H, W, C) uint8 and labels.

    These are (N,) int64, (N, K) float32 if multilabel, or masks (N, H, W) uint8.
    """

    pictures: Pixels
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def class_shares(self, classes: int) -> np.ndarray:
        """The frequency of each class: (K,), as shares of the pictures, or of the masks' pixels."""
        if self.labels.ndim == 2:
            return np.asarray(self.labels.mean(0))
        if self.labels.ndim == 3:
            counts = np.bincount(self.labels.ravel(), minlength=classes)[:classes]
            return np.asarray(counts / max(counts.sum(), 1))
        return np.bincount(self.labels, minlength=classes) / len(self.labels)

    def select(self, rows: np.ndarray) -> "Split":
        return Split(self.pictures[rows], self.labels[rows])


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
    if config.task == "segmentation":
        from training.data.mask_folder import load_mask_folder  # it builds on this module

        return load_mask_folder(config)
    if config.data == "mnist":
        return load_mnist(config.validation, config.seed)
    if config.data.endswith(".csv"):
        return load_csv_table(config)
    return load_image_folder(config)


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


def load_mnist(validation: float, seed: int) -> Dataset:
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
    held = sample_held_out(whole.labels, validation, seed)
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


def load_image_folder(config: Config) -> Dataset:
    """A folder of images. Missing splits are held out of training, stratified by label."""
    listed = list_splits(resolve_path(config.data))
    labels = tuple(sorted({label for rows in listed.values() for _, label in rows}))
    rows = [(path, label, split) for split, rows in listed.items() for path, label in rows]
    truth = np.array([labels.index(label) for _, label, _ in rows])
    given = np.array(["" if split == "all" else split for _, _, split in rows])
    return assemble_dataset([path for path, _, _ in rows], given, truth, labels, config)


def load_split(rows: Listing, labels: tuple[str, ...], input_spec: Input) -> Split:
    """Decode the listed pictures; each label becomes its index in `labels`."""
    truth = np.array([labels.index(label) for _, label in rows])
    return Split(decode_pictures([path for path, _ in rows], input_spec), truth)


def load_csv_table(config: Config) -> Dataset:
    """A CSV with labels of the pictures in its folder, and an optional column `split`.

    With `task="multilabel"` a picture may have several labels, and labels are (N, K). Otherwise
    each row must have one label.
    """
    path = resolve_path(config.data)
    rows, labels = read_csv_table(path)
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
    return assemble_dataset([row.file for row in rows], given, truth, labels, config)


def assemble_dataset(
    files: list[Path],
    given: NDArray[np.str_],  # (N,): the split of each picture, or "" everywhere
    truth: NDArray[Any],  # (N,) classes, or (N, K) of 0 and 1
    labels: tuple[str, ...],
    config: Config,
) -> Dataset:
    """Fill in the missing splits, and decode the pictures of each.

    Raises:
        UserError: there is a label, or none at all, without a picture to train on.
    """
    alike = truth if truth.ndim == 1 else np.zeros(len(truth), np.int64)
    splits = fill_splits(given, alike, config.validation, config.test, config.seed)
    train = truth[splits == "train"]
    counts = train.sum(0) if truth.ndim == 2 else np.bincount(train, minlength=len(labels))
    if not counts.all():
        missing = labels[int(np.flatnonzero(counts == 0)[0])]
        raise UserError(
            f"{config.data} has no picture with the label {missing!r} in the split 'train'. "
            "Add one, or remove the label."
        )
    chosen = {name: np.flatnonzero(splits == name) for name in SPLITS}
    return Dataset(
        {
            name: Split(decode_pictures([files[i] for i in rows], config.input), truth[rows])
            for name, rows in chosen.items()
            if len(rows)
        },
        labels,
    )


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
