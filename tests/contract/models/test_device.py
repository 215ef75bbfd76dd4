"""If the device fails, the service is not ready, reloads the model once, and then ends."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from service.runtime.batcher import DeviceLost
from service.runtime.device import detect_device_loss, is_device_loss, require_cuda
from service.runtime.engine import Outputs
from service.runtime.session import describe_missing_cuda, has_cuda
from tests.contract.artifacts import POISON, write_bursting_model
from tests.contract.tree import PICTURE
from tests.contract.wire import connect, read_answer, read_metric, start_post
from tests.server import PATIENCE, ROOT, Server, find_free_port, start_server, wait_until
from tests.service.quadrants_model import encode
from tests.warm_process import start_worker

POISONED = encode(Image.new("RGB", (32, 32), (POISON, 0, 0)))


@pytest.fixture
def bursting(tmp_path: Path) -> Iterator[Server]:
    """A server whose model runs out of memory for a certain image."""
    write_bursting_model(tmp_path / "models" / "main" / "1" / "model.onnx")
    with start_server(tmp_path / "models", tmp_path) as running:
        running.wait_ready()
        yield running


@pytest.mark.slow
def test_a_device_out_of_memory_is_reset_once_and_the_second_failure_ends_the_process(
    bursting: Server,
) -> None:
    client, [worker] = bursting.client, bursting.find_workers()
    files = [("image", content) for content in (PICTURE, POISONED, PICTURE)]
    results = client.post("/predict/batch", files=files).json()["results"]
    assert results[1]["error"]["code"] == "not_ready"
    assert "The device failed" in results[1]["error"]["message"]
    bursting.wait_ready()
    assert client.post("/predict", content=PICTURE).status_code == 200
    assert bursting.find_workers() == [worker]
    assert read_metric(bursting, "sightglass_device_failures_total", model="main") == 1
    bursting.wait_logged('"event":"device failed"')

    with connect(bursting) as connection:  # both at once: the process ends half a second later
        start_post(connection, "/predict", len(POISONED))
        connection.sendall(POISONED + b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n")
        status, headers, _ = read_answer(connection)
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        status, _, body = read_answer(connection)
        readiness = json.loads(body)
        assert status == 503
        assert "memory" in readiness["reasons"][0]
        assert readiness["provider"] is None

    def is_replaced() -> bool:
        return bool(bursting.find_workers()) and bursting.find_workers() != [worker]

    wait_until(is_replaced, describe=bursting.read_log)
    bursting.wait_logged('"event":"giving up"')
    bursting.wait_ready()
    assert client.post("/predict", content=PICTURE).status_code == 200


MEMORY = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"
)


@pytest.mark.parametrize(
    ("message", "rows", "lost"),
    [
        ("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0", 8, True),
        ("CUBLAS failure 13: CUBLAS_STATUS_EXECUTION_FAILED", 1, True),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", 8, True),
        ("CUDA error cudaErrorLaunchFailure:unspecified launch failure", 8, True),
        ("CUDA failure 2: out of memory ; GPU=0", 8, False),  # half of the rows may fit
        ("CUDA failure 2: out of memory ; GPU=0", 1, True),
        (MEMORY, 8, False),
        (MEMORY, 1, True),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", 2, False),
        ("Gather node: indices element out of data bounds, idx=1", 1, False),
    ],
)
def test_device_failures_are_distinguished_from_bad_rows(
    message: str, rows: int, lost: bool
) -> None:
    assert is_device_loss(RuntimeError(message), rows) is lost

    def fail(*_: object) -> Outputs:
        raise RuntimeError(message)

    with pytest.raises(
        DeviceLost if lost else RuntimeError,
        match="The device failed" if lost else re.escape(message),
    ):
        detect_device_loss(fail)(np.zeros((rows, 1, 1, 1), np.uint8), np.zeros((rows, 0), np.int64))


@pytest.mark.skipif(has_cuda(), reason="it would start on the GPU of this machine")
def test_cuda_without_a_gpu_does_not_start_and_says_what_is_missing(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "service", "serve", "--port", str(find_free_port())],
        cwd=ROOT,
        env=os.environ | {"SIGHTGLASS_DEVICE": "cuda", "SIGHTGLASS_MODELS_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert ran.returncode == 1
    assert ran.stderr.strip() == describe_missing_cuda()


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="there is no CUDA provider, or no GPU")
def test_a_working_gpu_is_accepted() -> None:
    require_cuda()


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="there is no CUDA provider, or no GPU")
def test_the_provider_that_auto_chose_is_shown_everywhere(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    with start_worker(quadrants_dir, tmp_path) as server:
        server.wait_ready()
        assert server.client.get("/readyz").json()["provider"] == "cuda"
        [version] = server.client.get("/models/quadrants").json()["versions"]
        assert version["provider"] == "cuda"
        assert read_metric(server, "sightglass_model_info", provider="cuda") == 1
        server.wait_logged('"provider":"cuda"')


@pytest.mark.skipif(has_cuda(), reason="the tests use the GPU of this machine")
def test_the_cpu_is_shown_everywhere(server: Server) -> None:
    assert server.client.get("/readyz").json()["provider"] == "cpu"
    [version] = server.client.get("/models/quadrants").json()["versions"]
    assert version["provider"] == "cpu"
    assert read_metric(server, "sightglass_model_info", provider="cpu") >= 1
    server.wait_logged('"provider":"cpu"')
