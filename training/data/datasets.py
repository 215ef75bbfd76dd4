"""Labelled pictures as arrays in memory or on disk: MNIST, or a folder of images.

Knows nothing of batches, distortions or networks.
"""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torchvision import datasets

from training.config import Config, data_root, located
from training.data import csv_table as tables
from training.data import image_folder as folders
from training.errors import UserError
from training.imaging.preprocessing import Input, Pixels


@dataclass(frozen=True)
class Split:
    """Pictures (N, H, W, C) uint8 with their labels: (N,) int64, or (N, K) float32 multi-label."""

    pictures: Pixels
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def shares(self, classes: int) -> np.ndarray:
        """How common each class is: (K,)."""
        if self.labels.ndim == 2:
            return np.asarray(self.labels.mean(0))
        return np.bincount(self.labels, minlength=classes) / len(self.labels)

    def take(self, rows: np.ndarray) -> "Split":
        return Split(self.pictures[rows], self.labels[rows])


@dataclass(frozen=True)
class Data:
    """The three splits and what the labels are called."""

    splits: dict[str, Split]
    labels: tuple[str, ...]


def load(config: Config) -> Data:
    """The data set that a config names."""
    if config.data == "mnist":
        return mnist(config.validation, config.seed)
    if config.data.endswith(".csv"):
        return table(config)
    return folder(config)


def mnist(validation: float, seed: int) -> Data:
    """MNIST from its four original files; fetched by torchvision where they aren't there."""
    folder = data_root() / "mnist"
    if not folder.is_dir():
        fetched = datasets.MNIST(str(data_root()), download=True)
        folder = Path(fetched.raw_folder)
    whole, test = (
        Split(
            idx(folder / f"{stem}-images-idx3-ubyte.gz")[..., None],
            idx(folder / f"{stem}-labels-idx1-ubyte.gz").astype(np.int64),
        )
        for stem in ("train", "t10k")
    )
    held = held_out(whole.labels, validation, seed)
    splits = {"train": whole.take(~held), "val": whole.take(held), "test": test}
    return Data(splits, tuple("0123456789"))


def folder(config: Config) -> Data:
    """A folder of images; missing splits are taken from training, alike from each label."""
    listed = folders.listing(located(config.data))
    rows = listed.get("train") or listed["all"]
    labels = tuple(sorted({label for _, label in rows}))
    for split, share in (
        ("test", config.test if "all" in listed else 0),
        ("val", config.validation),
    ):
        if split not in listed and share:
            truth = np.array([labels.index(label) for _, label in rows])
            held = held_out(truth, share, config.seed)
            listed[split] = [row for row, out in zip(rows, held, strict=True) if out]
            rows = [row for row, out in zip(rows, held, strict=True) if not out]
    listed.pop("all", None)
    listed["train"] = rows
    splits = {split: read(rows, labels, config.input) for split, rows in listed.items()}
    return Data(splits, labels)


def read(rows: folders.Listing, labels: tuple[str, ...], wanted: Input) -> Split:
    """The pictures of a listing as the network takes them, each with its label's place."""
    truth = np.array([labels.index(label) for _, label in rows])
    return Split(folders.decoded([path for path, _ in rows], wanted), truth)


def table(config: Config) -> Data:
    """A CSV of pictures beside it, their labels, and `split` where it has one.

    With several labels to a picture (`task="multilabel"`) labels are (N, K); else each row has one.
    """
    path = located(config.data)
    rows, labels = tables.read(path)
    marks = np.array([[float(row[label]) for label in labels] for row in rows], np.float32)
    several = config.task == "multilabel"
    if not several and (marks.sum(1) != 1).any():
        line = int(np.flatnonzero(marks.sum(1) != 1)[0]) + 2
        raise UserError(f"{path}, line {line}: a picture has one label unless task=multilabel.")
    truth = marks if several else marks.argmax(1)
    split = np.array([row.get("split", "train") for row in rows])
    if "split" not in rows[0]:
        alike = np.zeros(len(rows)) if several else truth
        test = held_out(alike, config.test, config.seed)
        rest = np.flatnonzero(~test)
        split[test] = "test"
        split[rest[held_out(alike[rest], config.validation, config.seed)]] = "val"
    splits = {}
    for name in ("train", "val", "test"):
        chosen = np.flatnonzero(split == name)
        if not len(chosen):
            raise UserError(f"{path} has no pictures in its {name} split.")
        files = [path.parent / rows[i]["file"] for i in chosen]
        splits[name] = Split(folders.decoded(files, config.input), truth[chosen])
    return Data(splits, labels)


def idx(path: Path) -> Pixels:
    """A gzipped file of LeCun's idx format: two zeros, type, number of dimensions, sizes, bytes."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError) as fault:
        raise UserError(f"{path} can't be read as a gzipped idx file: {fault}.") from fault
    if content[:3] != b"\0\0\x08":
        raise UserError(f"{path} is no idx file of bytes.")
    shape = np.frombuffer(content, ">i4", content[3], 4)
    return np.frombuffer(content, np.uint8, -1, 4 + 4 * content[3]).reshape(shape)


def held_out(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Which rows to hold out, the same share of each class: (N,) bool."""
    held = np.zeros(len(labels), bool)
    rng = np.random.default_rng(seed)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        held[rng.permutation(rows)[: round(share * len(rows))]] = True
    return held
