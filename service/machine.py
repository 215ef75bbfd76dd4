"""The machine: its cores, its NVIDIA driver, and processes that end with their parent."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
CPUINFO = Path("/proc/cpuinfo")
VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}  # 8-bit dot products, as Linux calls them
PARENT_POLL_SECONDS = 1.0
AT_ONCE = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has only SIGTERM


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def lacks_vnni(description: Path = CPUINFO) -> bool:
    """Return whether this is an x86 processor whose 8-bit products can overflow. Known on Linux."""
    try:
        lines = description.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), list(VNNI_FLAGS))
    return not VNNI_FLAGS & set(flags)


def has_driver() -> bool:
    """Return whether an NVIDIA driver is installed."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def end_with_parent(number: int, parent: int | None = None) -> None:
    """Have the kernel send this process a signal when its parent ends. Linux only.

    The parent is the thread that forked this process, so the signal comes when that thread ends.
    If `parent`, a process id, is no longer the parent, it has ended: the signal comes at once.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def watch_parent(number: int, parent: int) -> None:
    """Do the same where the kernel can't: a thread looks every second who the parent is."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_POLL_SECONDS)
        os.kill(os.getpid(), number)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()


def adopt_orphans() -> None:
    """Make this process the parent of its descendants whose own parent ends. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def make_expendable() -> None:
    """Print nothing, leave no core file, and be the first to be killed if memory is short.

    Unix only.
    """
    import resource  # exists on Unix only

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    os.close(nothing)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def kill(pid: int) -> None:
    """End a process at once. It may have ended already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, AT_ONCE)
