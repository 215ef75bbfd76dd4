"""What the processor of this machine can do that a file in 8 bits may need."""

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
VNNI_FLAGS = {"avx512_vnni", "avx_vnni"}  # as Linux calls them


def has_vnni(description: Path = CPUINFO) -> bool:
    """Whether the processor has an 8-bit dot product without overflow. Known on Linux only."""
    try:
        lines = description.read_text().splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith("flags")), "")
    return bool(VNNI_FLAGS & set(flags.split()))
