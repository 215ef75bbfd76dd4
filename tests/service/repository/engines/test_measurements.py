"""What was measured is kept and found again. What cannot be kept or read does no harm."""

import json
import os
from pathlib import Path

import pytest

from service.repository.engines import measurements as module
from service.repository.engines.measurements import Measurement, Measurements
from service.runtime.openvino import is_installed

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the package openvino")
DIGEST, OTHER = "1f" * 32, "2e" * 32


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sightglass" / "engines"


@pytest.mark.parametrize("measured", [Measurement(1.75), Measurement(None, "it has no Det")])
def test_what_is_kept_is_found_by_the_next_process(folder: Path, measured: Measurement) -> None:
    assert Measurements().find(DIGEST) is None
    assert Measurements().keep(DIGEST, measured) == measured
    assert Measurements().find(DIGEST) == measured
    assert Measurements().find(OTHER) is None
    assert len(list(folder.iterdir())) == 1  # and no temporary file


def test_all_workers_hold_the_first_measurement() -> None:
    one, other = Measurements(), Measurements()
    assert one.keep(DIGEST, Measurement(1.3)) == Measurement(1.3)
    assert other.keep(DIGEST, Measurement(1.1)) == Measurement(1.3)


@pytest.mark.parametrize("part", ["describe_processor", "find_onnxruntime_version"])
def test_another_processor_or_version_is_measured_anew(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    Measurements().keep(DIGEST, Measurement(2.0))
    monkeypatch.setattr(module, part, lambda: "another")
    assert Measurements().find(DIGEST) is None


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b'{"speedup": "fast", "fault": null}',
        b'{"speedup": NaN, "fault": null}',
        b'{"speedup": -1.0, "fault": null}',
        b'{"speedup": null, "fault": null}',
        b'{"speedup": 2.0, "fault": null' + b" " * module.MAX_BYTES + b"}",
        b"[" * module.MAX_BYTES,
    ],
)
def test_a_damaged_file_is_ignored_and_replaced(folder: Path, content: bytes) -> None:
    measurements = Measurements()
    measurements.keep(DIGEST, Measurement(2.0))
    [file] = folder.iterdir()
    file.write_bytes(content)
    assert measurements.find(DIGEST) is None
    assert measurements.keep(DIGEST, Measurement(1.5)) == Measurement(1.5)
    assert json.loads(file.read_bytes()) == {"speedup": 1.5, "fault": None}


def test_a_folder_that_cannot_be_written_costs_only_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert Measurements().keep(DIGEST, Measurement(2.0)) == Measurement(2.0)
    assert Measurements().find(DIGEST) is None


def test_without_a_home_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", fail)
    assert Measurements().keep(DIGEST, Measurement(2.0)) == Measurement(2.0)
    assert Measurements().find(DIGEST) is None


def test_the_oldest_are_removed_when_there_are_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES", 2)
    measurements = Measurements()
    for number, digest in enumerate(("a", "b")):
        measurements.keep(digest, Measurement(1.0))
        os.utime(folder / module.make_name(digest), (number, number))
    measurements.keep("c", Measurement(1.0))
    assert [measurements.find(digest) is None for digest in "abc"] == [True, False, False]
