"""What every test may ask for."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import ROOT, LaunchedServer, Server, start_server
from tests.service.quadrants_model import write_model
from tests.warm_process import start_worker

# torch would import it for GPU kernels that nothing here uses, and it prints its leaks at the exit.
sys.modules["triton"] = None  # type: ignore[assignment]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets named by SIGHTGLASS_DATA; without it the test skips."""
    folder = os.environ.get("SIGHTGLASS_DATA")
    if not folder:
        pytest.skip("needs the data sets: set SIGHTGLASS_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def quadrants_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with one tiny model; `tests.service.quadrants_model` says what it answers."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "quadrants" / "1" / "model.onnx")
    return folder


@pytest.fixture(scope="session")
def server(quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A worker with the tiny model, all settings at their defaults; shared: leave it up."""
    with start_worker(quadrants_dir, tmp_path_factory.mktemp("server")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def launched(
    quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchedServer]:
    """The same model behind launcher and supervisor, as a person starts it; leave it up as well."""
    with start_server(quadrants_dir, tmp_path_factory.mktemp("launched")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedServer]:
    """The service as `make serve` starts it: bundled models, the one for photographs as default."""
    folder = tmp_path_factory.mktemp("bundled")
    with start_server(ROOT / "models", folder, default_model="squeezenet1_1") as running:
        running.wait_ready()
        yield running
