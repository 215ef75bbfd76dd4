"""Reads a file that others may have put there. Knows no ONNX.

The path may lead to anything: a device without end, a pipe that nobody writes to, a file that grows
while it is read.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from service.artifact.card import InvalidArtifact

# Opening a pipe must not wait for a writer. These flags do not exist on Windows.
FLAGS = os.O_RDONLY | sum(
    getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
)

PIECE_BYTES = 1 << 20


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file; no more than the size that it had when it was opened.

    Raises:
        InvalidArtifact: it is no regular file, has more than `max_bytes`, or cannot be read.
    """
    with _open(path, max_bytes) as (file, size):
        content = file.read(size)
    if len(content) != size:
        raise InvalidArtifact(f"{path} changed while it was being read.")
    return content


def hash_regular_file(path: Path, max_bytes: int) -> str:
    """Return the SHA-256 of a file, read in pieces.

    Raises:
        InvalidArtifact: it is no regular file, has more than `max_bytes`, or cannot be read.
    """
    digest = sha256()
    with _open(path, max_bytes) as (file, left):
        while left > 0 and (piece := file.read(min(PIECE_BYTES, left))):
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


@contextmanager
def _open(path: Path, max_bytes: int) -> Iterator[tuple[BinaryIO, int]]:
    """Open a file. Give it with its size: a file that grows must not be read without end."""
    try:
        _check(path, path.stat(), max_bytes)  # opening a device may already have an effect
        with open(os.open(path, FLAGS), "rb") as file:
            status = os.fstat(file.fileno())
            _check(path, status, max_bytes)
            yield file, status.st_size
    except OSError as exc:
        raise InvalidArtifact(f"{path} can't be read: {exc.strerror or exc}.") from None


def _check(path: Path, status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidArtifact(f"{path} is {_describe(status.st_mode)}; expected a regular file.")
    if status.st_size > max_bytes:
        raise InvalidArtifact(
            f"{path} has {status.st_size} bytes; at most {max_bytes} are allowed here."
        )


def _describe(mode: int) -> str:
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    return next((kind for is_kind, kind in kinds.items() if is_kind(mode)), "a device")
