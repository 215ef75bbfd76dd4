"""The number of worker processes follows from the models and the machine."""

import os
import shutil
import sys
from pathlib import Path
from typing import Literal

import pytest

from service.cli.workers import MAX_AUTO_WORKERS, choose_workers
from service.machine import count_cores, has_driver
from service.settings import AUTO, read_settings
from tests.server import ROOT, start_server, wait_until
from tests.service.quadrants_model import write_model

FAST = [ROOT / "models" / name for name in ("lenet5", "lenet5-relu")]


@pytest.fixture
def fast_dir(tmp_path: Path) -> Path:
    """A folder with the bundled digit models."""
    for model in FAST:
        shutil.copytree(model, tmp_path / "models" / model.name)
    return tmp_path / "models"


def choose(models_dir: Path, workers: int | Literal["auto"] = AUTO) -> int:
    update = {"models_dir": models_dir, "device": "cpu", "workers": workers}
    return choose_workers(read_settings().model_copy(update=update))


def test_there_is_one_worker_per_core_if_every_model_is_fast(fast_dir: Path) -> None:
    assert choose(fast_dir) == min(count_cores(), MAX_AUTO_WORKERS)


def test_there_is_one_worker_if_a_model_is_large_unmeasured_unreadable_or_missing(
    fast_dir: Path,
) -> None:
    assert choose(ROOT / "models") == 1
    assert choose(fast_dir / "none") == 1
    other = fast_dir / "other" / "1" / "model.onnx"
    write_model(other)  # its card has no cost
    assert choose(fast_dir) == 1
    other.write_bytes(b"no model")
    assert choose(fast_dir) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_no_file_of_the_folder_holds_up_the_start(fast_dir: Path) -> None:
    for name in ("device", "pipe"):
        (fast_dir / name / "1").mkdir(parents=True)
    os.mkfifo(fast_dir / "pipe" / "1" / "model.onnx")
    assert choose(fast_dir) == 1
    (fast_dir / "pipe" / "1" / "model.onnx").unlink()
    (fast_dir / "device" / "1" / "model.onnx").symlink_to("/dev/zero")
    assert choose(fast_dir) == 1


def test_the_setting_decides_the_number_of_workers(fast_dir: Path) -> None:
    assert choose(fast_dir, workers=3) == 3


@pytest.mark.slow
@pytest.mark.skipif(has_driver(), reason="with a GPU there is one worker")
def test_the_service_starts_that_many_workers(fast_dir: Path, tmp_path: Path) -> None:
    with start_server(fast_dir, tmp_path) as server:
        server.wait_ready()
        wait_until(lambda: len(server.find_workers()) == choose(fast_dir))
