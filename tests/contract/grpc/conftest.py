"""Fixtures for the tests of gRPC. Without its packages they are skipped."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.artifacts import wait_loaded, write_strict_models
from tests.server import Server, find_free_port
from tests.service.mask_model import write_model as write_mask_model
from tests.service.quadrants_model import write_model
from tests.warm_process import start_worker

KEY = "a-key"
MAX_REQUEST_BYTES = 200_000
MAX_QUEUE_SIZE = 4


@pytest.fixture(scope="session")
def grpc_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    """A server with two models, and its port for gRPC."""
    pytest.importorskip("h2", reason="the extra grpc is not installed")
    folder = tmp_path_factory.mktemp("grpc")
    write_model(folder / "models" / "quadrants" / "1" / "model.onnx")
    write_mask_model(folder / "models" / "masks" / "1" / "model.onnx")
    port = find_free_port()
    settings = {"grpc_port": port, "default_model": "quadrants"}
    with start_worker(folder / "models", folder, **settings) as running:
        wait_loaded(running)
        yield running, port


@pytest.fixture(scope="session")
def client(grpc_server: tuple[Server, int]) -> Iterator[Any]:
    """Triton's own client."""
    triton = pytest.importorskip("tritonclient.grpc", reason="no tritonclient or no grpcio")
    with triton.InferenceServerClient(f"127.0.0.1:{grpc_server[1]}") as client:
        yield client


@pytest.fixture(scope="session")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, int]]:
    """A server with a key, small limits, a model that can fail and one that did not load."""
    pytest.importorskip("h2", reason="the extra grpc is not installed")
    folder = tmp_path_factory.mktemp("strict-grpc")
    write_strict_models(folder / "models")
    limits = {"max_request_bytes": MAX_REQUEST_BYTES, "max_queue_size": MAX_QUEUE_SIZE}
    port = find_free_port()
    settings = {"api_keys": KEY, "default_model": "quadrants", "grpc_port": port, **limits}
    with start_worker(folder / "models", folder, **settings) as running:
        running.client.headers["authorization"] = f"Bearer {KEY}"
        wait_loaded(running)
        yield running, port
