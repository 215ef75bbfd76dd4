"""Folders of images as data sets: <split>/<label>/*.jpg, or <label>/*.jpg without splits.

Each picture is decoded once, into a memory-mapped file under `.cache/pictures`. Knows nothing of
networks or batches.
"""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from training.errors import UserError
from training.imaging.decoding import PIXEL_RULES
from training.imaging.preprocessing import Input, Pixels, load_pixels

CACHE_FOLDER = Path(".cache/pictures")
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
}
SPLIT_FOLDERS |= {"test": "test", "testing": "test"}

Listing = list[tuple[Path, str]]  # (path, label) of each picture


def list_splits(folder: Path) -> dict[str, Listing]:
    """The pictures of each split. A folder without splits is returned as one split "all"."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}, neither here nor in the data folder.")
    inside = list_subfolders(folder)
    splits = {SPLIT_FOLDERS[p.name.lower()]: p for p in inside if p.name.lower() in SPLIT_FOLDERS}
    if not splits:
        return {"all": list_labelled_pictures(folder)}
    if "train" not in splits:
        raise UserError(f"{folder} has the splits {', '.join(splits)} but no folder train.")
    found = {split: list_labelled_pictures(path) for split, path in splits.items()}
    known = {label for _, label in found["train"]}
    for split, rows in found.items():
        new = sorted({label for _, label in rows} - known)
        if new:
            raise UserError(
                f"{splits[split]} has labels that are missing in train: {', '.join(new)}."
            )
    return found


def list_labelled_pictures(folder: Path) -> Listing:
    """Every picture below each label's folder, sorted. Files of other kinds are skipped."""
    names = list_readable_suffixes()
    rows: Listing = []
    labels = list_subfolders(folder)
    if len(labels) < 2:
        raise UserError(
            f"{folder} must have a subfolder for each of at least two labels, it has {len(labels)}."
        )
    for label in labels:
        files = sorted(p for p in label.rglob("*") if p.is_file() and not p.name.startswith("."))
        images = [p for p in files if p.suffix.lower() in names]
        if not images:
            raise UserError(f"The label folder {label} has no pictures. Add some, or remove it.")
        if len(images) < len(files):
            odd = next(p for p in files if p not in set(images))
            tqdm.write(
                f"{label}: skipped {len(files) - len(images)} files that are not pictures "
                f"({odd.name} …)"
            )
        rows += [(path, label.name) for path in images]
    return rows


def list_subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def list_readable_suffixes() -> set[str]:
    """The file name suffixes of the formats that Pillow reads."""
    Image.init()
    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}


def decode_pictures(paths: Sequence[Path], input_spec: Input) -> Pixels:
    """All pictures in the network's size: (N, H, W, C) uint8, memory-mapped from disk."""
    facts = [(str(p.resolve()), (s := p.stat()).st_size, s.st_mtime_ns) for p in paths]
    rules = (PIXEL_RULES, asdict(input_spec))
    key = hashlib.sha256(repr((facts, rules)).encode()).hexdigest()[:24]
    file = CACHE_FOLDER / f"{key}.npy"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(
            f".part-{os.getpid()}.npy"
        )  # every process of torchrun writes its own
        shape = (len(paths), input_spec.height, input_spec.width, input_spec.channels)
        rows = np.lib.format.open_memmap(partial, "w+", np.uint8, shape)
        try:
            with ThreadPoolExecutor() as pool:
                reading = pool.map(lambda path: load_pixels(path, input_spec), paths)
                for i, pixels in enumerate(tqdm(reading, "decoding", len(paths), leave=False)):
                    rows[i] = pixels
            rows.flush()
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
    mapped: Pixels = np.load(file, mmap_mode="r")
    return mapped
