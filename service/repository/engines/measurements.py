"""Keeps what was measured of both engines on this machine, in the user's cache folder.

One small file per model, processor and versions. Without a folder that can be written, nothing is
kept, and the next start measures again. A file that cannot be read is ignored.
"""

import contextlib
import os
import platform
from hashlib import sha256
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from pydantic_core import from_json, to_json

from service import __version__
from service.settings import find_cache_folder

MAX_FILES = 256
MAX_BYTES = 4096
PROCESSOR_LINES = ("model name", "cpu family", "model", "stepping", "flags", "features")


class Measurement(NamedTuple):
    """What comparing both engines gave."""

    speedup: float | None  # of OpenVINO over onnxruntime; None if OpenVINO cannot serve the file
    fault: str | None = None  # then this says why


class Measurements:
    """The measurements of earlier starts on this machine."""

    def __init__(self) -> None:
        folder = find_cache_folder()
        self._folder = folder / "engines" if folder else None

    def find(self, digest: str) -> Measurement | None:
        """Return what was measured for the file with that SHA-256, or None."""
        if self._folder is None:
            return None
        try:
            with open(self._folder / make_name(digest), "rb") as file:
                return read_measurement(file.read(MAX_BYTES))
        except (OSError, ValueError):
            return None

    def keep(self, digest: str, measurement: Measurement) -> Measurement:
        """Keep a measurement, and return the one that holds: another worker may have been first."""
        if self._folder is None:
            return measurement
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / make_name(digest)
            if self.find(digest) is None:
                path.unlink(missing_ok=True)  # it is damaged
            with NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
                file.write(to_json(measurement._asdict()))
            try:
                os.link(file.name, path)  # fails if it exists
            finally:
                os.unlink(file.name)
            self._remove_oldest()
        return self.find(digest) or measurement

    def _remove_oldest(self) -> None:
        assert self._folder
        files = [file for file in self._folder.iterdir() if file.suffix == ".json"]
        files.sort(key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[MAX_FILES:]:
            file.unlink(missing_ok=True)


def read_measurement(content: bytes) -> Measurement:
    """Read a kept measurement.

    Raises:
        ValueError: it is none.
    """
    match from_json(content):
        case {"speedup": float(speedup), "fault": None} if isfinite(speedup) and speedup > 0:
            return Measurement(speedup)
        case {"speedup": None, "fault": str(fault)}:
            return Measurement(None, fault)
    raise ValueError("no measurement")


def make_name(digest: str) -> str:
    """Return the name of the file for a model: what the measurement depends on, as one number."""
    packages = (version(name) for name in ("onnx", "openvino"))
    parts = (digest, describe_processor(), __version__, find_onnxruntime_version(), *packages)
    return sha256("\0".join(parts).encode()).hexdigest() + ".json"


def find_onnxruntime_version() -> str:
    """Return the version of onnxruntime, whose package has more than one name."""
    import onnxruntime

    return str(onnxruntime.__version__)


def describe_processor() -> str:
    """Return what tells this processor from others, its instructions included."""
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text().partition("\n\n")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    lines = [line for line in first.splitlines() if line.split("\t")[0].lower() in PROCESSOR_LINES]
    return "\n".join(lines)
