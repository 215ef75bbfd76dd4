"""Labelled pictures as arrays, in memory or on disk: MNIST, a folder of images, or a CSV table.

Knows nothing of batches, augmentation or networks.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision import datasets

from training.config import Config, get_data_folder, resolve_path
from training.data.csv_table import read_csv_table
from training.data.image_folder import Listing, decode_pictures, list_splits
from training.errors import UserError
from training.imaging.preprocessing import Input, Pixels


@dataclass(frozen=True)
class Split:
    """Pictures (N, H, W, C) uint8 and labels: (N,) int64, or (N, K) float32 if multilabel."""

    pictures: Pixels
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def class_shares(self, classes: int) -> np.ndarray:
        """The frequency of each class: (K,), as shares of the pictures."""
        if self.labels.ndim == 2:
            return np.asarray(self.labels.mean(0))
        return np.bincount(self.labels, minlength=classes) / len(self.labels)

    def select(self, rows: np.ndarray) -> "Split":
        return Split(self.pictures[rows], self.labels[rows])


@dataclass(frozen=True)
class Dataset:
    """The splits `train`, `val` and `test`, and the names of the labels."""

    splits: dict[str, Split]
    labels: tuple[str, ...]

    def get_split(self, name: str) -> Split:
        """A split with at least one picture; UserError if there is none."""
        if name not in self.splits or not len(self.splits[name]):
            found = ", ".join(name for name, split in self.splits.items() if len(split))
            raise UserError(f"The data set has no pictures in the split {name!r}, only in {found}.")
        return self.splits[name]


def load_dataset(config: Config) -> Dataset:
    """Load the data set that a config names.

    Raises:
        UserError: there is no such data set, or a file in it cannot be read.
    """
    if config.data == "mnist":
        return load_mnist(config.validation, config.seed)
    if config.data.endswith(".csv"):
        return load_csv_table(config)
    return load_image_folder(config)


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
    rows = listed.get("train") or listed["all"]
    labels = tuple(sorted({label for _, label in rows}))
    for split, share in (
        ("test", config.test if "all" in listed else 0),
        ("val", config.validation),
    ):
        if split not in listed and share:
            truth = np.array([labels.index(label) for _, label in rows])
            held = sample_held_out(truth, share, config.seed)
            listed[split] = [row for row, out in zip(rows, held, strict=True) if out]
            rows = [row for row, out in zip(rows, held, strict=True) if not out]
    listed.pop("all", None)
    listed["train"] = rows
    splits = {split: load_split(rows, labels, config.input) for split, rows in listed.items()}
    return Dataset(splits, labels)


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
    marks = np.array([[float(row[label]) for label in labels] for row in rows], np.float32)
    several = config.task == "multilabel"
    if not several and (marks.sum(1) != 1).any():
        line = int(np.flatnonzero(marks.sum(1) != 1)[0]) + 2
        raise UserError(
            f"{path}, line {line}: the picture must have exactly one label. "
            "For several labels per picture set task=multilabel."
        )
    truth = marks if several else marks.argmax(1)
    split = np.array([row.get("split", "train") for row in rows])
    if "split" not in rows[0]:
        alike = np.zeros(len(rows)) if several else truth
        test = sample_held_out(alike, config.test, config.seed)
        rest = np.flatnonzero(~test)
        split[test] = "test"
        split[rest[sample_held_out(alike[rest], config.validation, config.seed)]] = "val"
    splits = {}
    for name in ("train", "val", "test"):
        chosen = np.flatnonzero(split == name)
        if not len(chosen):
            raise UserError(
                f"{path} has no pictures in the split {name!r}. "
                "Each of train, val and test needs some."
            )
        files = [path.parent / rows[i]["file"] for i in chosen]
        splits[name] = Split(decode_pictures(files, config.input), truth[chosen])
    return Dataset(splits, labels)


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


def sample_held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A random mask of the rows to hold out, the same share of each class: (N,) bool."""
    held = np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        held[rng.permutation(rows)[: round(share * len(rows))]] = True
    return held
