"""Finds folders and picture files. Knows nothing of labels, splits or pixels.

Hidden files and folders are passed over. Links to folders are followed, each folder once.
"""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from training.errors import UserError

HIDDEN_NAMES = (  # what systems leave behind, besides names that begin with a dot
    *("__macosx", "thumbs.db", "desktop.ini", "$recycle.bin"),
    *("@eadir", "#recycle", "lost+found", "__pycache__"),
)


def list_pictures(folder: Path) -> list[Path]:
    """Every picture file below the folder, sorted by path. Files of other kinds are skipped.

    Raises:
        UserError: a folder cannot be read, or a link leads nowhere.
    """
    suffixes = list_readable_suffixes()
    top = folder.parent.resolve()
    files = list(walk_files(folder, {top, *top.parents, *folder.resolve().parents}))
    odd = [path for path in files if path.suffix.lower() not in suffixes]
    if odd:
        tqdm.write(f"{folder}: skipped {len(odd)} files that are not pictures ({odd[0].name} …)")
    return sorted(set(files).difference(odd))


def walk_files(folder: Path, seen: set[Path]) -> Iterator[Path]:
    """Every file below the folder, except in folders that are in `seen`; those met are added."""
    real = folder.resolve()
    if real in seen:
        tqdm.write(f"{folder}: skipped, it is a link to {real}, which is read already")
        return
    seen.add(real)
    for path in list_entries(folder):
        if path.is_dir():
            yield from walk_files(path, seen)
        elif path.is_file():
            yield path


def list_subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return [path for path in list_entries(folder) if path.is_dir()]


def list_entries(folder: Path) -> list[Path]:
    """The files and folders in a folder, sorted, without hidden ones.

    Raises:
        UserError: the folder cannot be read, or a link in it leads nowhere.
    """
    try:
        found = sorted(path for path in folder.iterdir() if not is_hidden(path))
    except OSError as error:
        raise UserError(f"The folder {folder} cannot be read: {error.strerror}.") from error
    for path in found:
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path} is a link to {path.readlink()}, which does not exist. "
                "Restore that, or remove the link."
            )
    return found


def is_hidden(path: Path) -> bool:
    """Whether the name is one that people do not see or do not mean."""
    return path.name.startswith(".") or path.name.lower() in HIDDEN_NAMES


def list_readable_suffixes() -> set[str]:
    """The file name suffixes of the formats that Pillow reads."""
    Image.init()
    return {ending for ending, kind in Image.registered_extensions().items() if kind in Image.OPEN}
