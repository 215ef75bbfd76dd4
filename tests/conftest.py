"""Fixtures for all tests."""

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from tests.server import DEVICE, ROOT, LaunchedServer, Server, start_server
from tests.service.quadrants_model import write_model
from tests.warm_process import start_worker

# torch imports triton for GPU kernels, which no test uses. At exit triton prints its leaks.
sys.modules["triton"] = None  # type: ignore[assignment]
os.environ.setdefault("SIGHTGLASS_DEVICE", DEVICE)

# grpcio, which tests of gRPC use as a client, would hold every later fork in the same process.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Return what shares the tests among the processes, in place of xdist's own."""
    # Imported here, since only `-n` needs it.
    from tests.scheduler import Scheduling

    return Scheduling(config, log)


PILLOWS_LIMIT = Image.MAX_IMAGE_PIXELS


@pytest.fixture(autouse=True)
def pillows_limit() -> Iterator[None]:
    """Give Pillow its own limit of pixels back: `open_image` sets one for the whole process."""
    yield
    Image.MAX_IMAGE_PIXELS = PILLOWS_LIMIT


@pytest.fixture(scope="session")
def cached_translations() -> Iterator[None]:
    """Let torch read its 1,000 translations to ONNX once, and not at every export.

    That takes half the time of exporting a small network.
    """
    # Imported here, since it takes seconds.
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    read_once = staticmethod(cache(ONNXRegistry.from_torchlib))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", read_once)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of data sets in SIGHTGLASS_DATA. Without it, the test is skipped."""
    folder = os.environ.get("SIGHTGLASS_DATA")
    if not folder:
        pytest.skip("needs the data sets: set SIGHTGLASS_DATA to their folder")
    return Path(folder)


@pytest.fixture(scope="session")
def quadrants_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one tiny model. `tests.service.quadrants_model` shows what it answers."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "quadrants" / "1" / "model.onnx")
    return folder


@pytest.fixture(scope="session")
def server(quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A worker with the tiny model and default settings. Tests share it and must not stop it."""
    with start_worker(quadrants_dir, tmp_path_factory.mktemp("server")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def launched(
    quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchedServer]:
    """The same model with launcher and supervisor, as users start it. Tests must not stop it."""
    with start_server(quadrants_dir, tmp_path_factory.mktemp("launched")) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def bundled_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A worker with the bundled models; the default model is for photographs."""
    folder = tmp_path_factory.mktemp("bundled")
    with start_worker(ROOT / "models", folder, default_model="efficientnet_lite0") as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedServer]:
    """The service as `make serve` starts it; the default model is for photographs."""
    folder = tmp_path_factory.mktemp("bundled")
    with start_server(ROOT / "models", folder, default_model="efficientnet_lite0") as running:
        running.wait_ready()
        yield running
