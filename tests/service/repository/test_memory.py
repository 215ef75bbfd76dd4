"""The memory of a process: what is left, the limit, the peak."""

import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from service.repository import memory
from service.repository.memory import PeakMemory, count_available_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux only")


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control group of a container, of which 300 bytes are used and 50 of these are cached."""
    (tmp_path / "memory.current").write_text("300\n")
    (tmp_path / "memory.stat").write_text("anon 100\ninactive_file 50\nactive_file 20\n")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    return tmp_path


def test_the_limit_of_a_container_counts(group: Path) -> None:
    (group / "memory.max").write_text("1000\n")
    assert count_available_bytes() == 750
    (group / "memory.max").write_text("200\n")
    assert count_available_bytes() == 0


def test_without_a_limit_the_memory_of_the_machine_counts(group: Path) -> None:
    (group / "memory.max").write_text("max\n")
    assert count_available_bytes() == pytest.approx(psutil.virtual_memory().available, rel=0.5)


def test_the_peak_is_what_was_taken_at_most() -> None:
    peak = PeakMemory()
    before = peak.measure()
    assert np.ones(64 << 20, np.uint8).all()  # freed at once
    assert peak.measure() - before == pytest.approx(64 << 20, rel=0.2)
