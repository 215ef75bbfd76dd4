"""How many workers a tree of models is given."""

import shutil
from pathlib import Path
from typing import Literal

import pytest

from service.cli.workers import MAX_AUTO_WORKERS, choose_workers
from service.machine import count_cores, has_driver
from service.settings import AUTO, read_settings
from tests.server import ROOT, start_server, wait_until
from tests.service.quadrants import write_model

BRIEF = [ROOT / "models" / name for name in ("lenet5", "lenet5-relu")]


@pytest.fixture
def brief_dir(tmp_path: Path) -> Path:
    """A tree of the bundled digit models."""
    for model in BRIEF:
        shutil.copytree(model, tmp_path / "models" / model.name)
    return tmp_path / "models"


def choose(models_dir: Path, workers: int | Literal["auto"] = AUTO) -> int:
    update = {"models_dir": models_dir, "device": "cpu", "workers": workers}
    return choose_workers(read_settings().model_copy(update=update))


def test_a_worker_a_core_where_every_model_is_brief(brief_dir: Path) -> None:
    assert choose(brief_dir) == min(count_cores(), MAX_AUTO_WORKERS)


def test_one_where_a_model_is_large_is_unmeasured_unreadable_or_missing(brief_dir: Path) -> None:
    assert choose(ROOT / "models") == 1
    assert choose(brief_dir / "none") == 1
    other = brief_dir / "other" / "1" / "model.onnx"
    write_model(other)  # its card has no cost
    assert choose(brief_dir) == 1
    other.write_bytes(b"no model")
    assert choose(brief_dir) == 1


def test_as_many_as_told(brief_dir: Path) -> None:
    assert choose(brief_dir, workers=3) == 3


@pytest.mark.skipif(has_driver(), reason="with a GPU one worker serves all")
def test_brief_models_are_served_by_as_many(brief_dir: Path, tmp_path: Path) -> None:
    with start_server(brief_dir, tmp_path) as server:
        server.wait_ready()
        wait_until(lambda: len(server.find_workers()) == choose(brief_dir))
