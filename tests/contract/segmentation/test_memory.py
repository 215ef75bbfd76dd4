"""Large pictures take bounded memory, whatever is drawn of their masks."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tests.attacks.attack import MAX_GROWN, MEGABYTE
from tests.attacks.watch import measure_processes, watch
from tests.server import ROOT, Server, connect_client
from tests.service.quadrants_model import encode
from tests.warm_process import start_worker

SIDE = 2048
TOGETHER = 8  # clients
MAX_WARM_ROUNDS = 20
LEVEL = 8 * MEGABYTE  # a smaller growth is none
DRAWN = {"view": "overlay", "size": 0}
CALLS: dict[str, tuple[str, dict[str, Any], str]] = {
    "predict": ("/predict", {"mask": "true"}, "application/json"),
    "mask": ("/segment", {"view": "mask"}, "image/png"),
    "overlay": ("/segment", DRAWN, "image/png"),
    "gradcam": ("/gradcam", DRAWN, "image/png"),
    "gradcam as text": ("/gradcam", {**DRAWN, "target_top": 2, "mask": "true"}, "application/json"),
}


def read_cells(side: int) -> Image.Image:
    """Return the example of cells as a square."""
    with Image.open(ROOT / "docs" / "examples" / "nuclei.png") as opened:
        return opened.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)


def send_together(server: Server, picture: bytes, call: str) -> None:
    """Send the same picture from several clients at once. Each must get its answer."""
    path, parameters, accept = CALLS[call]

    def send(_: int) -> None:
        with connect_client(server.port) as client:
            answer = client.post(
                path, content=picture, params=parameters, headers={"accept": accept}
            )
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == accept

    with ThreadPoolExecutor(TOGETHER) as clients:
        list(clients.map(send, range(TOGETHER)))


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the bundled model, after all batches whose memory onnxruntime keeps."""
    folder = tmp_path_factory.mktemp("large")
    shutil.copytree(ROOT / "models" / "nuclei", folder / "models" / "nuclei")
    settings = {"max_batch_size": 2, "request_timeout_ms": 300_000}
    with start_worker(folder / "models", folder, **settings) as server:
        server.wait_ready()
        small, before = encode(read_cells(256)), 0
        for _ in range(MAX_WARM_ROUNDS):
            for call in CALLS:
                send_together(server, small, call)
            now, _ = measure_processes(server)
            if now - before < LEVEL:
                break
            before = max(before, now)
        yield server


@pytest.mark.slow
def test_large_pictures_of_many_clients_take_bounded_memory(warm: Server) -> None:
    cells = read_cells(SIDE)
    with watch(warm) as observed:
        for picture in (encode(cells), encode(cells, "JPEG")):
            for call in CALLS:
                send_together(warm, picture, call)
    assert observed.grown <= MAX_GROWN, observed.describe()
    assert not observed.faults
