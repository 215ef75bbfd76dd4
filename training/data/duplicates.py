"""Finds files of the same content in two splits. Knows nothing of pixels or labels."""

import hashlib
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.splits import SPLITS
from training.errors import UserError

HEAD_BYTES = 4096  # most files differ here, so few are read to their end


def find_copies(paths: Sequence[Path], splits: NDArray[np.str_]) -> dict[int, int]:
    """The rows whose content is in a higher split, too, each with the row of that one.

    A training picture that is also in the test split makes the figures too good. Splits are
    ordered: train, val, test. Files that are left out, in the split "", are not read.
    """
    groups = [np.flatnonzero(splits != "")]
    for read in (measure_file, digest_head, digest_file):
        groups = [part for group in groups for part in divide(group, paths, splits, read)]
    copies: dict[int, int] = {}
    for group in groups:
        ranks = [SPLITS.index(str(splits[row])) for row in group]
        highest = int(group[int(np.argmax(ranks))])
        copies |= {
            int(row): highest for row, rank in zip(group, ranks, strict=True) if rank < max(ranks)
        }
    return copies


def divide(
    group: NDArray[np.int64],
    paths: Sequence[Path],
    splits: NDArray[np.str_],
    read: Callable[[Path], Hashable],
) -> list[NDArray[np.int64]]:
    """The parts of a group that have the same key and are in at least two splits."""
    parts: dict[Hashable, list[int]] = {}
    for row in group.tolist():
        parts.setdefault(read(paths[row]), []).append(row)
    return [np.array(part) for part in parts.values() if len(part) > 1 and len({*splits[part]}) > 1]


def measure_file(path: Path) -> int:
    return path.stat().st_size


def digest_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(HEAD_BYTES), digest_size=16).digest()


def digest_file(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


def check_copies(copies: dict[int, int], paths: Sequence[Path], splits: NDArray[np.str_]) -> None:
    """Raise UserError if there are copies."""
    if not copies:
        return
    row, other = min(copies.items())
    raise UserError(
        f"{len(copies)} files are in two splits, so the figures would be too good: {paths[row]} "
        f"({splits[row]}) and {paths[other]} ({splits[other]}) have the same content. Remove one "
        "of each, or leave out the copies in the lower split (train, then val) with "
        "--skip-duplicates."
    )
