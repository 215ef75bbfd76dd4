"""What the processor of this machine can do that a file in 8 bits may need."""

from pathlib import Path

VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}  # as Linux calls them


def has_vnni() -> bool:
    """Whether the processor has an 8-bit dot product without overflow. Known on Linux only."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return bool(VNNI_FLAGS & set(flags.split()))
