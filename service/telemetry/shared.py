"""The files through which the workers of one server sum their metrics.

prometheus_client maps the files into memory. Writing to a page for which the disk has no room ends
the process (SIGBUS), and its successors too. So every block is reserved before it is mapped.
Where there is no room, the worker counts in its own memory, and says so.

A worker writes to the files of the first slot that no other worker has. So a worker that replaces
a dead one continues its sums, and there are never more files than workers.
"""

import itertools
import json
import logging
import mmap
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from threading import Lock

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from service.telemetry.log import with_fields

FILE_BYTES = 1 << 18  # of a new file: about 1,500 series
CHUNK_BYTES = 1 << 20
HEAD_BYTES = 8  # of a file: how much of it is used
CELL_BYTES = 16  # a value and its time
MODEL = "model"  # the label of metrics of models
ENTRY_BYTES = 4 + 8 + CELL_BYTES  # an entry has at most this much besides its key
KINDS = ("counter", "histogram", "gauge_livesum")  # of the files, one for each kind of metric

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

    def list_keys(self) -> list[str]:
        """Return the keys of all series."""
        return list(self._positions)

    def remove(self, gone: Collection[str]) -> None:
        """Write the file anew, without some series. Who reads it finds the old one or the new one.

        Without room for it, everything stays as it is.
        """
        path = Path(self._fname)
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        try:
            reserve_file(part)
            self._copy(part, gone)
            fresh = ReservedDict(str(part))
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            return
        self.close()  # type: ignore[no-untyped-call]
        vars(self).update(vars(fresh) | {"_fname": str(path)})

    def _copy(self, path: Path, gone: Collection[str]) -> None:
        """Write all other entries to a file, each from the end of the one before."""
        begin = HEAD_BYTES
        kept = []
        for key, position in self._positions.items():
            end = position + CELL_BYTES
            if end > self._used:  # the cell that nobody reads
                continue
            if key not in gone:
                kept.append(self._m[begin:end])
            begin = end
        content = b"".join(kept)
        used = (HEAD_BYTES + len(content)).to_bytes(4, sys.byteorder)
        missing = HEAD_BYTES + len(content) + CELL_BYTES - FILE_BYTES
        with path.open("r+b") as file:
            extend(file.fileno(), max(missing, 0))
            file.seek(0)
            file.write(used.ljust(HEAD_BYTES, b"\0") + content)

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
    """Whether this worker shares its metrics, and its files."""

    def __init__(self) -> None:
        self.slot: int | None = None  # None: it counts in its own memory
        self.problem: str | None = None  # why it does not share everything
        self.lock = Lock()  # of the files
        self._folder = Path()
        self._files: dict[str, ReservedDict] = {}  # by the kind of metric

    def open(self, folder: Path) -> None:
        """Take a slot in the folder, and have prometheus_client keep all values in its files."""
        try:
            slot = take_slot(folder)
            (folder / f"gauge_livesum_{slot}.db").unlink(missing_ok=True)  # of a dead worker
            self._folder, self.slot = folder, slot
            for kind in KINDS:
                self.find_file(kind)
        except OSError as exc:
            self.problem, self.slot = f"this worker's metrics are not shared: {exc}", None
            values.ValueClass = values.MutexValue
            return
        values.ValueClass = SharedValue

    def find_file(self, kind: str) -> ReservedDict:
        """Return the file of a kind of metric.

        Raises:
            OSError: there is no room for it.
        """
        if kind not in self._files:
            self._files[kind] = ReservedDict(str(self._folder / f"{kind}_{self.slot}.db"))
        return self._files[kind]

    def keep_models(self, names: Collection[str]) -> None:
        """Remove the series of all models but these from this worker's files."""

        for file in self._files.values():
            gone = {
                key
                for key in file.list_keys()
                if MODEL in (labels := json.loads(key)[2]) and labels[MODEL] not in names
            }
            if gone:
                with self.lock:
                    file.remove(gone)


class SharedValue:
    """One value in this worker's files. prometheus_client makes one for each series.

    Its own class would ask for the process for every count, and keep every value for ever.
    """

    _multiprocess = True

    def __init__(
        self,
        typ: str,
        metric_name: str,
        name: str,
        labelnames: Sequence[str],
        labelvalues: Sequence[str],
        help_text: str,
        multiprocess_mode: str = "",
        **_: object,
    ) -> None:
        kind = f"{typ}_{multiprocess_mode}" if multiprocess_mode else typ
        self._key = mmap_key(metric_name, name, list(labelnames), list(labelvalues), help_text)
        self._file = SHARING.find_file(kind)
        self._value: float
        with SHARING.lock:
            self._value, _ = self._file.read_value(self._key)  # type: ignore[no-untyped-call]

    def inc(self, amount: float) -> None:
        """Add to the value."""
        with SHARING.lock:
            self._value += amount
            self._file.write_value(self._key, self._value, 0.0)  # type: ignore[no-untyped-call]

    def set(self, value: float, timestamp: float | None = None) -> None:
        """Replace the value."""
        with SHARING.lock:
            self._value = value
            self._file.write_value(self._key, value, timestamp or 0.0)  # type: ignore[no-untyped-call]

    def get(self) -> float:
        """Return the value."""
        return self._value

    def set_exemplar(self, exemplar: object) -> None:
        """Keep no example: the files have no place for it."""

    def get_exemplar(self) -> None:
        """Return no example."""
        return


SHARING = Sharing()


def report_no_room(problem: str) -> None:
    """Log that something is not shared, and keep it for `/metrics`."""
    SHARING.problem = problem
    log.warning("metrics not shared", extra=with_fields(reason=problem))
