"""Folders of images as data sets: <split>/<label>/*.jpg, or <label>/*.jpg without splits.

Each picture is decoded once, into a memory-mapped file under `.cache/pictures`. Knows nothing of
networks or batches.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from training.data.picture_files import list_pictures, list_subfolders
from training.data.splits import ACCEPTED_NAMES, SPLIT_NAMES
from training.errors import UserError
from training.imaging.decoding import PIXEL_RULES
from training.imaging.preprocessing import Input, Pixels, load_pixels

CACHE_FOLDER = Path(".cache/pictures")
Item = TypeVar("Item")
Listing = list[tuple[Path, str]]  # (path, label) of each picture


def list_splits(folder: Path) -> dict[str, Listing]:
    """The pictures of each split. A folder without splits is returned as one split "all".

    Raises:
        UserError: there is no such folder, or its layout is not clear.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}, neither here nor in the data folder.")
    splits = find_split_folders(folder)
    if not splits:
        return {"all": list_labelled_pictures(folder)}
    if "train" not in splits:
        raise UserError(f"{folder} has the splits {', '.join(splits)} but no folder train.")
    found = {
        split: list_labelled_pictures(path, 2 if split == "train" else 1)
        for split, path in splits.items()
    }
    known = {label for _, label in found["train"]}
    for split, rows in found.items():
        new = sorted({label for _, label in rows} - known)
        if new:
            raise UserError(
                f"{splits[split]} has labels that are missing in train: {', '.join(new)}."
            )
    return found


def find_split_folders(folder: Path) -> dict[str, Path]:
    """The folder of each split, or nothing if the subfolders are labels.

    A folder named like a split is a label if it has no folders and others are not named so: a label
    may be called train.

    Raises:
        UserError: two folders are the same split, or a folder beside the splits is none.
    """
    inside = list_subfolders(folder)
    named = [path for path in inside if path.name.lower() in SPLIT_NAMES]
    others = [path.name for path in inside if path not in named]
    if not named or (others and not any(list_subfolders(path) for path in named)):
        return {}
    if others:
        raise UserError(
            f"{folder} has the splits {', '.join(path.name for path in named)}, "
            f"but {others[0]} is not a split. {ACCEPTED_NAMES}"
        )
    splits: dict[str, Path] = {}
    for path in named:
        split = SPLIT_NAMES[path.name.lower()]
        if split in splits:
            raise UserError(
                f"{folder} has two folders for the split {split}: {splits[split].name} and "
                f"{path.name}. Keep one of them."
            )
        splits[split] = path
    return splits


def list_labelled_pictures(folder: Path, least: int = 2) -> Listing:
    """Every picture below each label's folder, sorted.

    Raises:
        UserError: there are fewer than `least` labels, or a label has no pictures.
    """
    labels = list_subfolders(folder)
    if len(labels) < least:
        wanted = "each of at least two labels" if least > 1 else "at least one label"
        raise UserError(f"{folder} must have a subfolder for {wanted}, it has {len(labels)}.")
    rows: Listing = []
    for label in labels:
        pictures = list_pictures(label)
        if not pictures:
            raise UserError(f"The label folder {label} has no pictures. Add some, or remove it.")
        rows += [(path, label.name) for path in pictures]
    return rows


def decode_pictures(paths: Sequence[Path], input_spec: Input) -> Pixels:
    """All pictures in the network's size: (N, H, W, C) uint8, memory-mapped from disk."""
    rules = (describe_files(paths), (PIXEL_RULES, asdict(input_spec)))
    shape = (len(paths), input_spec.height, input_spec.width, input_spec.channels)
    return store_rows(paths, lambda path: load_pixels(path, input_spec), shape, rules)


def describe_files(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """What changes with the content of files: path, size and time of the last change."""
    return [(str(p.resolve()), (s := p.stat()).st_size, s.st_mtime_ns) for p in paths]


def store_rows(
    items: Sequence[Item],
    load: Callable[[Item], Pixels],
    shape: tuple[int, ...],
    rules: object,
) -> Pixels:
    """The pixels of each item in an array of this shape, memory-mapped from disk.

    They are loaded once for the same rules, and by several threads.
    """
    key = hashlib.sha256(repr(rules).encode()).hexdigest()[:24]
    file = CACHE_FOLDER / f"{key}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(
            f".part-{os.getpid()}.npy"
        )  # every process of torchrun writes its own
        rows = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        try:
            with ThreadPoolExecutor() as pool:
                reading = pool.map(load, items)
                for i, pixels in enumerate(tqdm(reading, "decoding", len(items), leave=False)):
                    rows[i] = pixels
            rows.flush()
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
    mapped: Pixels = np.load(file, mmap_mode="r")
    return mapped
