"""The files through which the workers of one server sum their metrics.

prometheus_client maps the files into memory. Writing to a page for which the disk has no room ends
the process (SIGBUS), and its successors too. So every block is reserved before it is mapped.
Where there is no room, the worker counts in its own memory, and says so.

A worker writes to the files of the first slot that no other worker has. So a worker that replaces
a dead one continues its sums, and there are never more files than workers.
"""

import itertools
import logging
import mmap
import os
import sys
from pathlib import Path

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

from service.telemetry.log import with_fields

FILE_BYTES = 1 << 18  # of a new file: about 1,500 series
CHUNK_BYTES = 1 << 20
CELL_BYTES = 16  # a value and its time
ENTRY_BYTES = 4 + 8 + CELL_BYTES  # an entry has at most this much besides its key
PREFIXES = ("counter", "histogram", "gauge_livesum")  # of the files, one for each kind of metric

log = logging.getLogger(__name__)


def find_multiprocess_folder() -> Path | None:
    """The folder into which the workers of one server write; None for a single process."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # BentoML sets it for its workers
    return None if folder is None else Path(folder)


def extend(descriptor: int, count: int) -> None:
    """Append zeros to a file, which takes their blocks on the disk at once.

    Raises:
        OSError: there is no room. The file is as long as before.
    """
    length = os.fstat(descriptor).st_size
    os.lseek(descriptor, 0, os.SEEK_END)
    try:
        while count:
            count -= os.write(descriptor, bytes(min(count, CHUNK_BYTES)))
    except OSError:
        os.truncate(descriptor, length)
        raise


def take_slot(folder: Path) -> int:
    """Return the smallest number that no other living process has; this one keeps it to its end.

    Raises:
        OSError: there is no room for a file.
    """
    if sys.platform == "win32":
        return os.getpid()
    import fcntl  # exists on Unix only

    for slot in itertools.count(1):
        descriptor = os.open(folder / f"slot-{slot}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        return slot  # the descriptor stays open: the kernel unlocks the file when the process ends
    raise AssertionError("unreachable")


class ReservedDict(MmapedDict):
    """A file of values whose blocks are all on the disk before they are written."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        reserve_file(filename)
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
        self._has_room = True

    def _init_value(self, key: str) -> None:
        """Add a series. Without room for it, its values go to a cell that nobody reads."""
        if self._has_room:
            try:
                self._make_room(len(key.encode()) + ENTRY_BYTES)
            except OSError as exc:
                self._has_room = False  # for good: the end of the file is that cell from now on
                report_no_room(f"new series of this worker are not shared: {exc}")
        if self._has_room:
            super()._init_value(key)  # type: ignore[no-untyped-call]
            return
        cell = self._capacity - CELL_BYTES
        self._m[cell:] = bytes(CELL_BYTES)
        self._positions[key] = cell

    def _make_room(self, count: int) -> None:
        """Double the file until `count` bytes and the cell fit into it."""
        while self._used + count + CELL_BYTES > self._capacity:
            extend(self._f.fileno(), self._capacity)
            self._capacity *= 2
            self._m = mmap.mmap(self._f.fileno(), self._capacity)


def reserve_file(path: str | Path) -> None:
    """Make a file of zeros, or make a short one longer.

    Raises:
        OSError: there is no room.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        missing = FILE_BYTES - os.fstat(descriptor).st_size
        extend(descriptor, max(missing, 0))
    finally:
        os.close(descriptor)


class Sharing:
    """Whether this worker shares its metrics, and the number of its files."""

    def __init__(self) -> None:
        self.slot: int | None = None  # None: it counts in its own memory
        self.problem: str | None = None  # why it does not share everything

    def open(self, folder: Path) -> None:
        """Take a slot in the folder, and have prometheus_client keep all values in its files."""
        try:
            slot = take_slot(folder)
            (folder / f"gauge_livesum_{slot}.db").unlink(missing_ok=True)  # of a dead worker
            for prefix in PREFIXES:
                reserve_file(folder / f"{prefix}_{slot}.db")
        except OSError as exc:
            self.problem = f"this worker's metrics are not shared: {exc}"
            values.ValueClass = values.MutexValue
            return
        self.slot = slot
        values.MmapedDict = ReservedDict  # type: ignore[attr-defined]
        number = itertools.repeat(slot).__next__  # it is called for every count, so it must be fast
        values.ValueClass = values.MultiProcessValue(number)  # type: ignore[no-untyped-call]


SHARING = Sharing()


def report_no_room(problem: str) -> None:
    """Log that something is not shared, and keep it for `/metrics`."""
    SHARING.problem = problem
    log.warning("metrics not shared", extra=with_fields(reason=problem))
