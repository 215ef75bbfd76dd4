"""Decoded pixels of files on disk, in rows of one shape, for all processes and all runs.

A file is decoded once: its row is found again by its path, size and time of change. A new file gets
a new row, and the others stay. All stores together stay within a limit, and those that were not
used for longest are removed first. Knows nothing of labels or splits.
"""

import fcntl
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.errors import UserError
from training.imaging.preprocessing import Pixels

CACHE_FOLDER = Path(".cache/pictures")
GIGABYTE = 10**9
CHUNK = 1024  # rows that are decoded before they are written into the index
DECODED = -1  # the slot of a file that can be decoded, and whose pixels are not stored
UNKNOWN = -2
FREE = "-"  # in the index, in place of the file that a row belonged to

Slots = NDArray[np.int64]


class PixelStore:
    """A file of rows, and an index of which row belongs to which file."""

    def __init__(self, rules: object, shape: tuple[int, ...], limit: float) -> None:
        """`rules`: all that the pixels depend on, besides the files. `limit`: in gigabytes."""
        self.folder = CACHE_FOLDER.resolve()
        self.key = hashlib.sha256(repr((rules, shape)).encode()).hexdigest()[:24]
        self.shape, self.row_bytes = shape, math.prod(shape)
        self.limit = round(limit * GIGABYTE)
        self.pixels = self.folder / f"{self.key}.pixels"
        self.index = self.folder / f"{self.key}.index"
        self.in_use: IO[str] | None = None

    def __getstate__(self) -> dict[str, object]:
        """What a loader's process gets: the main process says that the store is in use."""
        return {**vars(self), "in_use": None}

    def fill(
        self, names: Sequence[str], load: Callable[[int], Pixels], stored: NDArray[np.bool_]
    ) -> tuple[Slots, dict[int, str]]:
        """Decode the files that the store does not know.

        Args:
            names: of the files, as `name_file` makes them.
            load: decodes one of them.
            stored: the files whose pixels are stored, if there is room.

        Returns:
            the slot of each file, and what is wrong with those that cannot be decoded.

        Raises:
            UserError: the store cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with open_locked(self.folder / f"{self.key}.lock"):  # one decodes, the others wait
                return self.decode_missing(names, load, stored)
        except OSError as error:
            raise UserError(
                f"Decoded pictures cannot be written to {self.folder}: {error.strerror}. "
                "Make room there, or set `cache` to a lower number of gigabytes."
            ) from error

    def decode_missing(
        self, names: Sequence[str], load: Callable[[int], Pixels], stored: NDArray[np.bool_]
    ) -> tuple[Slots, dict[int, str]]:
        self.in_use, alone = hold(self.folder / f"{self.key}.use")
        room = self.make_room(int(stored.sum()) * self.row_bytes) // self.row_bytes
        self.index.touch()
        self.pixels.touch()
        if alone and self.pixels.stat().st_size > room * self.row_bytes:
            os.truncate(self.pixels, room * self.row_bytes)
        known = self.read_index(room)
        slots = np.array([known.get(name, UNKNOWN) for name in names], np.int64)
        missing = list_missing(slots, stored, room)
        faults: dict[int, str] = {}
        with self.index.open("a") as index, self.pixels.open("r+b", buffering=0) as pixels:
            if alone and len(missing):  # rows of files that are gone are free
                for name in known.keys() - set(names):
                    if (slot := known.pop(name)) >= 0:
                        index.write(f"{FREE} {slot}\n")
                index.flush()
            free = list_free_slots({*known.values()}, room)
            for row, found in decode_rows(missing.tolist(), load):
                if isinstance(found, str):
                    faults[row] = found
                    continue
                slot = next(free, DECODED) if stored[row] else DECODED
                if slot >= 0:
                    pixels.seek(slot * self.row_bytes)
                    pixels.write(found.tobytes())
                if slot != slots[row]:
                    slots[row] = slot
                    index.write(f"{names[row]} {slot}\n")
        return slots, faults

    def read(self, slots: Slots) -> Pixels:
        """The rows of these slots: (n, …). OSError if they are no longer there."""
        rows = np.empty((len(slots), *self.shape), np.uint8)
        if len(slots):
            with self.pixels.open("rb", buffering=0) as file:
                for row, slot in zip(rows, slots.tolist(), strict=True):
                    file.seek(slot * self.row_bytes)
                    if file.readinto(row.reshape(-1)) != self.row_bytes:
                        raise OSError(f"{self.pixels} is shorter than its index says")
        return rows

    def read_index(self, room: int) -> dict[str, int]:
        """The slot of each file in the index. A later line counts more than an earlier one."""
        known: dict[str, int] = {}
        owners: dict[int, str] = {}
        rows = min(self.pixels.stat().st_size // self.row_bytes, room)
        for line in self.index.read_text().splitlines():
            name, _, slot = line.partition(" ")
            if slot.lstrip("-").isdigit():  # a run that was killed may leave half a line
                known[name] = int(slot)
                owners[int(slot)] = name
        return {
            name: slot if owners[slot] == name and slot < rows else DECODED
            for name, slot in known.items()
            if name != FREE
        }

    def make_room(self, needed: int) -> int:
        """Remove other stores until these bytes fit; returns the bytes that this one may have.

        Those that were not used for longest go first, and those that a process uses stay. Without
        a limit to fill, all stay.
        """
        if not self.limit:
            return 0
        stores: dict[str, list[Path]] = {}
        for path in self.folder.iterdir():
            stores.setdefault(path.name.partition(".")[0], []).append(path)
        stores.pop(self.key, None)
        sizes = {key: sum(map(measure_pixels, files)) for key, files in stores.items()}
        for key in sorted(stores, key=lambda key: max(map(find_last_use, stores[key]))):
            if sum(sizes.values()) + needed <= self.limit:
                break
            if remove_unused(stores[key]):
                del sizes[key]
        return max(self.limit - sum(sizes.values()), 0)


def name_file(paths: Iterable[Path]) -> str:
    """A name for the content of files, which changes with their paths, sizes and times of change.

    Raises:
        UserError: a file is no longer there.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        digest.update(os.fsencode(os.path.abspath(path)))
        digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def decode_rows(
    rows: list[int], load: Callable[[int], Pixels]
) -> Iterator[tuple[int, Pixels | str]]:
    """Each row with its pixels, or with the sentence that says why it cannot be decoded."""

    def attempt(row: int) -> Pixels | str:
        try:
            return load(row)
        except UserError as error:
            return str(error)

    if not rows:
        return
    with ThreadPoolExecutor() as pool, tqdm(total=len(rows), desc="decoding", leave=False) as bar:
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            for row, pixels in zip(chunk, pool.map(attempt, chunk), strict=True):
                yield row, pixels
                bar.update()


def list_missing(slots: Slots, stored: NDArray[np.bool_], room: int) -> NDArray[np.int64]:
    """The files to decode: those that nobody has tried, and as many others as there is room for."""
    unknown = slots == UNKNOWN
    rest = max(room - int((slots >= 0).sum()) - int((unknown & stored).sum()), 0)
    stored_later = np.flatnonzero((slots == DECODED) & stored)[:rest]
    return np.union1d(np.flatnonzero(unknown), stored_later)


def list_free_slots(taken: set[int], room: int) -> Iterator[int]:
    """The slots below `room` that no file has, from the first on."""
    return (slot for slot in range(room) if slot not in taken)


@contextmanager
def open_locked(path: Path) -> Iterator[None]:
    """Wait until no other process has the lock, and hold it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def hold(path: Path) -> tuple[IO[str], bool]:
    """Say that a store is in use until the file is closed, and whether nobody else uses it."""
    file = path.open("w")
    alone = True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        alone = False
    fcntl.flock(file, fcntl.LOCK_SH)
    return file, alone


def remove_unused(files: list[Path]) -> bool:
    """Remove the pixels and the index of a store, unless a process uses it."""
    with ExitStack() as stack:
        for path in files:
            if path.suffix == ".use":
                held = stack.enter_context(path.open("r+"))
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
        for path in files:
            if path.suffix not in (".use", ".lock"):  # both are empty, and another may wait for one
                path.unlink(missing_ok=True)
    return True


def measure_pixels(path: Path) -> int:
    """The size of a file of pixels; an index is small."""
    return path.stat().st_size if path.exists() and path.suffix != ".index" else 0


def find_last_use(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0
