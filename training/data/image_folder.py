"""Folders of images as data sets: <split>/<label>/*.jpg, or <label>/*.jpg without splits.

Knows nothing of pixels.
"""

import os
from pathlib import Path

from training.data.picture_files import list_pictures, list_subfolders
from training.data.splits import ACCEPTED_NAMES, SPLIT_NAMES
from training.errors import UserError

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
    others = [path.name for path in inside if path.name.lower() not in SPLIT_NAMES]
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
        if os.fsencode(label.name).decode(errors="replace") != label.name:
            raise UserError(f"The label folder {label} has a name that is not UTF-8. Rename it.")
        pictures = list_pictures(label)
        if not pictures:
            raise UserError(f"The label folder {label} has no pictures. Add some, or remove it.")
        rows += [(path, label.name) for path in pictures]
    return rows
