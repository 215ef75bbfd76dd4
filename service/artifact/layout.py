"""The layout of a model repository, `<name>/<version>/model.onnx`. Opens no file."""

import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from service.errors import make_printable

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
VERSION = re.compile(r"[1-9][0-9]{0,17}")
FILE_NAME = "model.onnx"
SUFFIX = ".onnx"
MAX_ENTRIES = 20_000  # of a model repository; listing more would take too long
MAX_FILES = 1000  # models and versions of a repository; each may be loaded and listed
MAX_VERSIONS = 1000  # entries of a model's folder
MAX_MISPLACED = 100  # entries that are looked at in a folder that is not at its place
MAX_ALL_MISPLACED = 2000  # of all such folders, with the folders themselves
MAX_FAULTS = 20  # sentences about one repository

Key = tuple[str, int]  # name, version
Stamp = tuple[int, int, int]  # of a file: inode, size, mtime


class Tree(NamedTuple):
    """What is in a model repository."""

    files: dict[Key, Stamp]
    unreadable: set[str]  # names whose folder can't be listed, so nobody knows their versions
    faults: list[str]  # a sentence for each file that is not at its place


class UnreadableTree(Exception):
    """A model repository that can't be listed; the message is one sentence."""


def scan_tree(models_dir: Path) -> Tree:
    """Return the model files with their stamps, and what is wrong with the layout.

    Raises:
        UnreadableTree: the folder does not exist, can't be listed, or has too much in it.
    """
    return _Scan(models_dir).run()


def make_reference(name: str, version: str | None) -> str:
    """Return how a model is named, with its version if that matters."""
    return f"{name}/{version}" if version else name


def make_model_path(models_dir: Path, key: Key) -> Path:
    """Return where the file of a version is."""
    return models_dir / key[0] / str(key[1]) / FILE_NAME


class _Scan:
    """One walk through a repository. It never goes deeper than a version's folder."""

    def __init__(self, models_dir: Path) -> None:
        self._models_dir = models_dir
        self._tree = Tree({}, set(), [])
        self._entries_left = MAX_ENTRIES
        self._misplaced_left = MAX_ALL_MISPLACED

    def run(self) -> Tree:
        try:
            entries = sorted(self._list(self._models_dir), key=lambda entry: entry.name)
        except FileNotFoundError:
            raise UnreadableTree(
                f"The model folder {self._models_dir} does not exist: make it, or set "
                "SIGHTGLASS_MODELS_DIR to another one."
            ) from None
        except OSError as exc:
            raise UnreadableTree(
                f"The model folder {self._models_dir} can't be read: {exc.strerror}."
            ) from None
        for entry in entries:
            if entry.name.endswith(SUFFIX) and not entry.is_dir(follow_symlinks=False):
                self._report(entry.path)
            elif NAME.fullmatch(entry.name):
                self._look_at_model(entry)
            else:
                self._look_for_misplaced(entry, f"'{entry.name}' is no valid name of a model")
        return self._tree

    def _look_at_model(self, folder: "os.DirEntry[str]") -> None:
        """Find the versions of a model."""
        try:
            entries = list(islice(self._list(folder.path), MAX_VERSIONS + 1))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as exc:  # for example of a file system that is not mounted now
            self._tree.unreadable.add(folder.name)
            self._add_fault(f"The folder {folder.path} can't be read: {exc.strerror}.")
            return
        if len(entries) > MAX_VERSIONS:
            self._tree.unreadable.add(folder.name)
            self._add_fault(
                f"The folder {folder.path} has more than {MAX_VERSIONS} entries, so it is not read."
            )
            return
        for entry in entries:
            if entry.name.endswith(SUFFIX) and not entry.is_dir(follow_symlinks=False):
                self._report(entry.path)
            elif VERSION.fullmatch(entry.name):
                self._look_at_version(folder.name, entry)
            else:
                self._look_for_misplaced(entry, f"'{entry.name}' is no version (1, 2, 3 …)")

    def _look_at_version(self, name: str, folder: "os.DirEntry[str]") -> None:
        """Record the file of a version."""
        try:
            status = os.stat(os.path.join(folder.path, FILE_NAME))
        except (FileNotFoundError, NotADirectoryError):
            self._look_for_misplaced(folder, f"its name must be '{FILE_NAME}'")
        except OSError as exc:
            self._tree.unreadable.add(name)
            self._add_fault(f"{folder.path}/{FILE_NAME} can't be read: {exc.strerror}.")
        else:
            stamp = (status.st_ino, status.st_size, status.st_mtime_ns)
            self._tree.files[name, int(folder.name)] = stamp
            if len(self._tree.files) > MAX_FILES:
                raise UnreadableTree(
                    f"The model folder {self._models_dir} has more than {MAX_FILES} model files, "
                    "so it is not read; what is served does not change."
                )

    def _look_for_misplaced(self, folder: "os.DirEntry[str]", reason: str) -> None:
        """Report model files in a folder that is not at its place, or their folders."""
        self._misplaced_left -= 1
        if self._misplaced_left < 0:  # there is enough to tidy up
            return
        if folder.is_symlink():  # many could lead to one folder
            return
        try:
            with os.scandir(folder.path) as entries:
                for entry in islice(entries, min(MAX_MISPLACED, self._misplaced_left)):
                    self._misplaced_left -= 1
                    inner = os.path.join(entry.path, FILE_NAME)
                    if entry.name.endswith(SUFFIX):
                        self._report(entry.path, reason)
                    elif os.path.lexists(inner):
                        self._report(inner, reason)
        except OSError:  # a file, or a folder that is not ours
            return

    def _list(self, folder: str | Path) -> "Iterator[os.DirEntry[str]]":
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries_left -= 1
                if self._entries_left < 0:
                    raise UnreadableTree(
                        f"The model folder {self._models_dir} has more than {MAX_ENTRIES} entries, "
                        "so it is not read; what is served does not change."
                    )
                yield entry

    def _report(self, path: str, reason: str = "it is at the wrong place") -> None:
        self._add_fault(
            f"{path} is not served, because {reason}: put it at "
            f"{self._models_dir}/<name>/<version>/{FILE_NAME}."
        )

    def _add_fault(self, sentence: str) -> None:
        if len(self._tree.faults) < MAX_FAULTS:  # a name may hold bytes that are no text
            self._tree.faults.append(make_printable(sentence))
