"""Finds folders and picture files. Knows nothing of labels, splits or pixels.

Hidden files and folders are passed over. Links to folders are followed, each folder once.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from training.errors import UserError

HIDDEN_NAMES = (  # what systems leave behind, besides names that begin with a dot
    *("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"),
    *("@eadir", "#recycle", "lost+found", "__pycache__"),
)


HEIC_SUFFIXES = {".heic", ".heics", ".heif", ".heifs", ".hif"}


def list_pictures(folder: Path) -> list[Path]:
    """Every picture file below the folder, sorted by path. Files of other kinds are skipped.

    Raises:
        UserError: a folder cannot be read, or a link leads nowhere.
    """
    suffixes = list_readable_suffixes()
    top = folder.parent.resolve()
    pictures: list[Path] = []
    others: list[Path] = []
    for path in walk_files(folder, {top, *top.parents, *folder.resolve().parents}):
        (pictures if path.suffix.lower() in suffixes else others).append(path)
    if others:
        tqdm.write(
            f"{folder}: skipped {len(others)} files that are not pictures ({others[0].name} …)"
        )
    return sorted(pictures)


def walk_files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Every file below the folder, except in folders that are in `seen`; those met are added."""
    real = folder.resolve()
    if real in seen:
        tqdm.write(f"{folder}: skipped, it is a link to {real}, which is read already")
        return
    seen.add(real)
    for entry in scan_folder(folder):
        if entry.is_dir():
            yield from walk_files(folder / entry.name, seen)
        elif entry.is_file():
            yield folder / entry.name


def list_subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return [folder / entry.name for entry in scan_folder(folder) if entry.is_dir()]


def list_entries(folder: Path) -> list[Path]:
    """The files and folders in a folder, sorted, without hidden ones."""
    return [folder / entry.name for entry in scan_folder(folder)]


def scan_folder(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without what is hidden.

    Raises:
        UserError: the folder cannot be read, or a link in it leads nowhere.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((e for e in entries if not is_hidden(e.name)), key=lambda e: e.name)
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    for entry in found:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise UserError(
                f"{folder / entry.name} is a link to {os.readlink(entry.path)}, which does not "
                "exist. Restore that, or remove the link."
            )
    return found


def is_hidden(name: str) -> bool:
    """Whether the name is one that people do not see or do not mean."""
    return name.startswith(".") or name.lower() in HIDDEN_NAMES


def find_groups(paths: list[Path], folder: Path, pattern: str) -> list[str]:
    """The group of each picture: what the pattern finds in its path below the folder.

    If the pattern has a group in parentheses, that is taken.

    Raises:
        UserError: it is not a regular expression, or finds nothing in a path.
    """
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(
            f"`group` must be a column of the CSV file or a regular expression, got {pattern!r}: "
            f"{error}."
        ) from error
    groups = []
    for path in paths:
        found = expression.search(path.relative_to(folder).as_posix())
        if not found:
            raise UserError(
                f"`group` {pattern!r} finds nothing in {path.relative_to(folder)}. Change it so "
                "that it finds a name in each path."
            )
        groups.append(found[1] if expression.groups and found[1] is not None else found[0])
    return groups


def list_readable_suffixes() -> set[str]:
    """The file name suffixes of the formats that are read. Decoding says if HEIC needs an extra."""
    Image.init()
    endings = Image.registered_extensions().items()
    return {ending for ending, kind in endings if kind in Image.OPEN} | HEIC_SUFFIXES
