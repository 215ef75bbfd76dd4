"""Fixtures for the tests of the Open Inference Protocol."""

from collections.abc import Iterator

import pytest
import tritonclient.http as triton

from tests.contract.artifacts import wait_loaded, write_strict_models
from tests.server import Server
from tests.warm_process import start_worker

KEY = "a-key"
MAX_REQUEST_BYTES = 200_000
MAX_QUEUE_SIZE = 4


@pytest.fixture(scope="session")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    """Triton's own client, connected to the shared server."""
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as client:
        yield client


@pytest.fixture(scope="session")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a key, small limits, and a model that can fail."""
    folder = tmp_path_factory.mktemp("strict")
    write_strict_models(folder / "models")
    limits = {"max_request_bytes": MAX_REQUEST_BYTES, "max_queue_size": MAX_QUEUE_SIZE}
    settings = {"api_keys": KEY, "default_model": "quadrants", **limits}
    with start_worker(folder / "models", folder, **settings) as running:
        running.client.headers["authorization"] = f"Bearer {KEY}"
        wait_loaded(running)
        yield running
