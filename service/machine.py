"""The machine: its cores, its NVIDIA driver, and a process that ends with its parent."""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # of prctl(2)


def count_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_driver() -> bool:
    """Whether there is an NVIDIA driver."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent is gone without a word: Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)
