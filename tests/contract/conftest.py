"""Fixtures for the contract tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.artifacts import wait_loaded
from tests.contract.tree import Tree
from tests.server import Server, start_server, wait_until
from tests.service.quadrants_model import write_model
from tests.warm_process import start_worker

UNICODE = ("Кошка", "猫/%", 'a "quoted", comma', "naïve\tcafé\n")
MANY = tuple(f"label {number}" for number in range(20))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    """A server that polls its model repository often. The repository has one model."""
    folder = tmp_path_factory.mktemp("states")
    models = folder / "models"
    write_model(models / "main" / "1" / "model.onnx")
    settings = {"model_poll_seconds": 0.1, "default_model": "main"}
    with start_worker(models, folder, **settings) as running:
        running.wait_ready()
        yield Tree(running, models)


@pytest.fixture(scope="session")
def pair(quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two workers."""
    with start_server(quadrants_dir, tmp_path_factory.mktemp("pair"), workers=2) as running:
        running.wait_ready()
        wait_until(lambda: running.read_log().count('"event":"ready"') == 2)
        assert len(running.find_workers()) == 2
        yield running


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with several models: two versions, unusual labels, many labels, gray input."""
    folder = tmp_path_factory.mktemp("several")
    models = folder / "models"
    for version in ("2", "10"):
        write_model(models / "alpha" / version / "model.onnx")
    write_model(models / "labels" / "1" / "model.onnx", labels=list(UNICODE))
    write_model(models / "many" / "1" / "model.onnx", labels=list(MANY))
    write_model(models / "gray" / "1" / "model.onnx", mode="L", side=64)
    with start_worker(models, folder) as running:
        wait_loaded(running)
        yield running
