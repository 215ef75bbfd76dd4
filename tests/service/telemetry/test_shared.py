"""The shared files of metrics: slots, reserved blocks, and a disk without room."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.telemetry import shared
from service.telemetry.shared import FILE_BYTES, ReservedDict, extend, take_slot
from tests.server import ROOT

TAKE = "import sys; from service.telemetry.shared import *; print(take_slot(Path(sys.argv[1])))"


@pytest.fixture
def no_room() -> Iterator[None]:
    """No file may be longer than a new one, which the system reports as a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def count_blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_a_slot_is_free_again_once_its_process_has_ended(tmp_path: Path) -> None:
    def take_elsewhere() -> int:
        command = [sys.executable, "-c", TAKE, str(tmp_path)]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)

    assert take_elsewhere() == 1
    assert take_slot(tmp_path) == 1
    assert take_elsewhere() == 2
    assert take_elsewhere() == 2


def test_every_block_of_a_file_is_on_the_disk_before_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    file: Any = ReservedDict(str(path))
    assert count_blocks(path) >= FILE_BYTES
    for number in range(3000):
        file.write_value(
            f"a key of some length, as those of prometheus_client are: {number:60}", 1, 0
        )
    assert path.stat().st_size > FILE_BYTES
    assert count_blocks(path) >= path.stat().st_size
    file.close()


@pytest.mark.usefixtures("no_room")
def test_without_room_new_series_are_left_out_and_old_ones_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared.SHARING, "problem", None)
    path = tmp_path / "counter_1.db"
    file: Any = ReservedDict(str(path))
    file.write_value("old", 1, 0)
    for number in range(6000):
        file.write_value(f"new series {number:80}", 7, 0)
    assert "File too large" in (shared.SHARING.problem or "")
    assert path.stat().st_size == FILE_BYTES
    file.write_value("old", 2, 0)
    written = file.read_all_values_from_file(str(path))
    kept = {key: value for key, value, _, _ in written}
    assert kept.pop("old") == 2
    assert set(kept.values()) == {7.0}
    assert 1000 < len(kept) < 6000
    file.close()
    successor: Any = ReservedDict(str(path))
    assert successor.read_value("old") == (2, 0)
    successor.close()


def read(path: Path) -> dict[str, float]:
    read_all: Any = ReservedDict.read_all_values_from_file
    return {key: value for key, value, _, _ in read_all(str(path))}


def test_removed_series_make_room_and_the_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "counter_1.db"
    file: Any = ReservedDict(str(path))
    keys = [f"series {number:{80 + number % 9}}" for number in range(6000)]
    for number, key in enumerate(keys):
        file.write_value(key, number, 0)
    kept = keys[::7]
    file.remove({*keys} - {*kept})
    expected = {key: float(number) for number, key in enumerate(keys) if key in kept}
    assert read(path) == expected
    assert path.stat().st_size == FILE_BYTES <= count_blocks(path)
    file.write_value(kept[3], -1, 0)
    file.write_value(keys[1], 5, 0)
    assert read(path) == expected | {kept[3]: -1, keys[1]: 5}
    assert [it.name for it in tmp_path.iterdir()] == [path.name]
    file.close()


@pytest.mark.usefixtures("no_room")
def test_without_room_for_a_new_file_all_series_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "counter_1.db"
    file: Any = ReservedDict(str(path))
    file.write_value("one", 1, 0)
    file.write_value("two", 2, 0)

    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(shared, "reserve_file", fail)
    file.remove({"one"})
    file.write_value("one", 3, 0)
    assert read(path) == {"one": 3, "two": 2}
    file.close()


REMOVE = """
from service.telemetry import metrics

for name in ("first", "second"):
    metrics.BATCH_SIZE.labels(name).observe(3)
    metrics.get_warning_counter(name, "unfamiliar").inc()
metrics.count_maps("second", 2, 1)
metrics.keep_models({"second"})
metrics.BATCH_SIZE.labels("second").observe(3)
metrics.get_warning_counter("second", "unfamiliar").inc()
"""


def test_only_the_series_of_removed_models_are_removed(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", REMOVE]
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    series = read(tmp_path / "counter_1.db") | read(tmp_path / "histogram_1.db")
    assert not [key for key in series if "first" in key]
    found = {json.loads(key)[1]: value for key, value in series.items() if "second" in key}
    assert found["sightglass_batch_size_sum"] == 6
    assert found["sightglass_warnings_total"] == 2
    assert found["sightglass_maps_total"] == 2


@pytest.mark.usefixtures("no_room")
def test_a_file_that_cannot_be_extended_keeps_its_length(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    extend(descriptor, 100)
    with pytest.raises(OSError, match="File too large"):
        extend(descriptor, FILE_BYTES)
    assert os.fstat(descriptor).st_size == 100
    os.close(descriptor)
