"""Only regular files are read, and never more of them than they had when they were opened."""

import os
import socket
from pathlib import Path

import pytest

from service.artifact.card import InvalidArtifact
from service.artifact.regular_file import read_regular_file


def read_reason(path: Path, max_bytes: int = 100) -> str:
    with pytest.raises(InvalidArtifact) as rejected:
        read_regular_file(path, max_bytes)
    return str(rejected.value)


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular_file(tmp_path / "file", 7) == b"content"
    assert read_regular_file(tmp_path / "link", 7) == b"content"


def test_a_larger_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    assert read_reason(tmp_path / "sparse") == (
        f"{tmp_path}/sparse has {1 << 40} bytes; at most 100 are allowed here."
    )


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Unix only")
def test_what_is_no_regular_file_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
    assert read_reason(tmp_path / "fifo") == (
        f"{tmp_path}/fifo is a pipe; expected a regular file."
    )
    assert "is a folder" in read_reason(tmp_path / "folder")
    assert "is a device" in read_reason(tmp_path / "zero")
    assert "is a socket" in read_reason(tmp_path / "socket")


def test_a_file_that_says_it_is_empty_has_no_content(tmp_path: Path) -> None:
    """As many files of /proc do, which have content or wait for it."""
    (tmp_path / "link").symlink_to("/proc/self/status")
    assert read_regular_file(tmp_path / "link", 100) == b""


def test_a_missing_file_is_an_invalid_artifact(tmp_path: Path) -> None:
    assert read_reason(tmp_path / "none") == (
        f"{tmp_path}/none can't be read: No such file or directory."
    )
