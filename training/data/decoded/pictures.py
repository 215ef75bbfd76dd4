"""Pictures of files as an array that is decoded where it is read.

A row comes from the store of decoded pixels, or else from its file. Knows nothing of labels.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from training.data.decoded.store import PixelStore, Slots, name_file
from training.errors import UserError
from training.imaging.decoding import PIXEL_RULES
from training.imaging.preprocessing import Input, Pixels, load_pixels


class DecodedRows(ABC):
    """An array of uint8 whose first axis is read as one reads a numpy array's."""

    ndim: int
    dtype = np.dtype(np.uint8)

    def __init__(self, store: PixelStore, slots: Slots) -> None:
        self.store, self.slots = store, slots
        self.ndim = 1 + len(store.shape)

    @abstractmethod
    def decode(self, row: int) -> Pixels:
        """One row, from its file."""

    @abstractmethod
    def select(self, rows: NDArray[Any]) -> Self:
        """Some of the rows, without reading them."""

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.slots), *self.store.shape)

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, rows: Any) -> Pixels:
        """Read a row, or the rows of a slice, of indices or of a mask."""
        chosen = np.asarray(np.arange(len(self))[rows])
        return self.read(chosen.ravel()).reshape(*chosen.shape, *self.store.shape)

    def read(self, rows: NDArray[np.int64]) -> Pixels:
        slots = self.slots[rows]
        stored = slots >= 0
        found = np.empty((len(rows), *self.store.shape), np.uint8)
        try:
            found[stored] = self.store.read(slots[stored])
        except OSError:  # somebody has removed the store
            stored[:] = False
        for place in np.flatnonzero(~stored):
            found[place] = self.decode(int(rows[place]))
        return found

    def as_array(self) -> Pixels:
        """Itself, for functions that read an array by slices and indices."""
        return cast(Pixels, self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        return np.asarray(self[:], dtype)


class FilePictures(DecodedRows):
    """Pictures (N, H, W, C) of files in the network's size."""

    def __init__(
        self, paths: NDArray[np.bytes_], input_spec: Input, store: PixelStore, slots: Slots
    ) -> None:
        super().__init__(store, slots)
        self.paths, self.input_spec = paths, input_spec  # bytes: a worker never copies their page

    def find_path(self, row: int) -> Path:
        return Path(os.fsdecode(bytes(self.paths[row])))

    def decode(self, row: int) -> Pixels:
        return load_pixels(self.find_path(row), self.input_spec)

    def select(self, rows: NDArray[Any]) -> Self:
        return type(self)(self.paths[rows], self.input_spec, self.store, self.slots[rows])


def get_file_pictures(pictures: object) -> FilePictures | None:
    """Pictures that are read like an array, if they are those of files."""
    return pictures if isinstance(pictures, FilePictures) else None


def read_pictures(
    paths: Sequence[Path],
    owner: Path,
    input_spec: Input,
    cache: float,
    stored: NDArray[np.bool_] | None = None,
) -> tuple[FilePictures, dict[int, str]]:
    """The pictures of files, and what is wrong with those that cannot be decoded.

    Args:
        paths: of the files.
        owner: the folder or the table that lists them.
        input_spec: their size and mode.
        cache: gigabytes that decoded pictures may take on the disk.
        stored: the pictures that are read in the network's size. None: all of them.
    """
    rules = ("pictures", PIXEL_RULES, input_spec.to_card(), os.path.abspath(owner))
    store = PixelStore(rules, (input_spec.height, input_spec.width, input_spec.channels), cache)
    stored = np.ones(len(paths), bool) if stored is None else stored
    names = [name_file([path]) for path in paths]
    slots, faults = store.fill(names, lambda row: load_pixels(paths[row], input_spec), stored)
    encoded = np.array([os.fsencode(path) for path in paths])
    return FilePictures(encoded, input_spec, store, slots), faults


def find_readable(
    faults: dict[int, str], paths: Sequence[Path], skip: bool = False
) -> NDArray[np.bool_]:
    """The rows without a fault: (N,).

    Raises:
        UserError: there are faults, and `skip` is false. All files are named.
    """
    readable = np.ones(len(paths), bool)
    readable[[*faults]] = False
    if not faults:
        return readable
    listed = ", ".join(str(paths[row]) for row in sorted(faults))
    if skip:
        tqdm.write(f"skipped {len(faults)} pictures that cannot be read: {listed}")
        return readable
    reason = str(faults[min(faults)])
    if len(faults) > 1:
        count = f"{len(faults)} of {len(paths)} pictures cannot be read"
        reason = f"{count}: {listed}. The first one: {reason}"
    raise UserError(f"{reason} Or leave such files out with --skip-unreadable.")
