"""The machine: its cores, its NVIDIA driver, and processes that end with their parent."""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # of prctl(2)


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_driver() -> bool:
    """Return whether an NVIDIA driver is installed."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent ends. Linux only.

    The parent is the thread that forked this process, so the signal comes when that thread ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
