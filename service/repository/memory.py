"""Memory of a process: what it may still take, what it took at most, and giving back what is free.

Knows /proc, control groups and malloc, but no model. `count_available_bytes` and `limit_memory`
are for Linux only; the rest does nothing elsewhere.
"""

import ctypes
import sys
from pathlib import Path

MEGABYTE = 1 << 20
MMAP_THRESHOLD = -3  # the number of this option of mallopt
LARGE_BLOCK_BYTES = 4 * MEGABYTE  # smaller blocks are kept: taking new ones costs time
PROC = Path("/proc")
GROUP = Path("/sys/fs/cgroup")  # a container sees its own control group here


def count_available_bytes() -> int:
    """Return how many bytes can be taken before the machine or the container runs short."""
    lines = (PROC / "meminfo").read_text().splitlines()
    fields = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines}
    return min(fields["MemAvailable:"], _count_left_in_group())


def _count_left_in_group() -> int:
    """Return what is left of the container's limit; files that are cached there count as free."""
    try:
        limit, used = (int((GROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        statistics = (GROUP / "memory.stat").read_text().split()
    except (OSError, ValueError):  # there is no group, or its limit is "max"
        return sys.maxsize
    cached = int(statistics[statistics.index("inactive_file") + 1])
    return max(0, limit - used + cached)


def limit_memory(max_bytes: int) -> int:
    """Limit the memory of this process to `max_bytes` more than it has.

    Returns how much more it may take: a lower limit that the process already has is kept.
    """
    import resource  # exists on Unix only

    used = int((PROC / "self" / "statm").read_text().split()[0]) * resource.getpagesize()
    old = [it for it in resource.getrlimit(resource.RLIMIT_AS) if it != resource.RLIM_INFINITY]
    limit = min([used + max_bytes, *old])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return limit - used


class PeakMemory:
    """The most resident memory that this process took since a point in time."""

    def __init__(self) -> None:
        """Start to measure now."""
        return_free_memory()  # what is free now would hide what is taken later
        try:
            (PROC / "self" / "clear_refs").write_text("5")  # resets VmHWM, see proc(5)
            self._start: int | None = self._read()
        except OSError:  # other systems and some container runtimes do not have it
            self._start = None

    def measure(self) -> int:
        """Return the bytes that were taken at most; 0 if the system does not tell."""
        return 0 if self._start is None else max(0, self._read() - self._start)

    def _read(self) -> int:
        fields = (PROC / "self" / "status").read_text().split()
        return int(fields[fields.index("VmHWM:") + 1]) * 1024


def keep_little_memory() -> None:
    """Have malloc return every large block as soon as it is freed. Only glibc needs to be told."""
    change = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if change:
        change(MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def return_free_memory() -> None:
    """Return what malloc keeps to the system. On other systems than Linux, do nothing."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl does not have it
        if trim:
            trim(0)
