"""Invalid requests are rejected and do not increase the memory."""

import io
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image, PngImagePlugin

from tests.server import Server
from tests.service.quadrants_model import encode, light
from tests.warm_process import start_worker

MEGABYTE = 1 << 20
ROUNDS = 20
ALLOWED_GROWTH = 64 * MEGABYTE


@pytest.fixture(scope="module")
def own_server(quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that no other test uses, so that its memory can be compared."""
    with start_worker(quadrants_dir, tmp_path_factory.mktemp("server")) as server:
        server.wait_ready()
        yield server


def make_bomb() -> bytes:
    """Return a small PNG of 20,000 x 20,000 pixels."""
    file = io.BytesIO()
    PngImagePlugin.putchunk(file, b"IHDR", b"\0\0\x4e\x20\0\0\x4e\x20\1\0\0\0\0")
    PngImagePlugin.putchunk(file, b"IDAT", zlib.compress(bytes(20_000 * 2501), 9))
    PngImagePlugin.putchunk(file, b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + file.getvalue()


def make_wide_gif() -> bytes:
    """Return a GIF of 32 x 32 with a frame far outside, at 65,535 x 130,815."""
    screen = b"GIF89a" + struct.pack("<HHBBB", 32, 32, 0xF1, 0, 0) + bytes(12)
    frame = struct.pack("<HHHHB", 0, 65_280, 65_535, 65_535, 0)
    return screen + b"!\xf9\x04\x08\0\0\0\0" + b"," + frame + b"\x02\0;"


def make_truncated_jpeg() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (1500, 2000, 3), np.uint8)
    content = encode(Image.fromarray(noise), "JPEG")
    return content[: len(content) // 2]


INVALID = {
    "bomb": (make_bomb(), 422, "image_too_large"),
    "wide": (make_wide_gif(), 422, "image_too_large"),
    "truncated": (make_truncated_jpeg(), 422, "invalid_image"),
    "text": (b"I am no cat.", 415, "unsupported_media_type"),
    "empty": (b"", 400, "bad_request"),
    "huge": (bytes(100 * MEGABYTE), 413, "payload_too_large"),
}


def read_memory(server: Server) -> int:
    """Return the resident bytes of the worker."""
    [worker] = server.find_workers()
    return int(psutil.Process(worker).memory_info().rss)


@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_request_is_rejected_and_the_memory_does_not_grow(
    own_server: Server, name: str
) -> None:
    content, status, code = INVALID[name]
    send_invalid(own_server, content, status, code)
    before = read_memory(own_server)
    for _ in range(ROUNDS if len(content) < 10 * MEGABYTE else 5):
        send_invalid(own_server, content, status, code)
    assert read_memory(own_server) - before < ALLOWED_GROWTH / 4
    answer = own_server.client.post("/predict", content=encode(light(3)))
    assert answer.json()["predictions"][0]["label"] == "bottom right"


def test_a_hundred_concurrent_invalid_requests_stay_within_the_memory_bound(
    own_server: Server,
) -> None:
    before = read_memory(own_server)
    requests = [INVALID[name] for name in ("bomb", "truncated", "text", "empty")] * 25
    with ThreadPoolExecutor(32) as pool:
        for outcome in [pool.submit(send_invalid, own_server, *request) for request in requests]:
            outcome.result()
    assert read_memory(own_server) - before < ALLOWED_GROWTH


def send_invalid(server: Server, content: bytes, status: int, code: str) -> None:
    """Send the content as a form with the file name and type of an image."""
    files = {"image": ("cat.jpg", content, "image/jpeg")}
    try:
        answer = server.client.post("/predict", files=files)
    except (httpx.WriteError, httpx.ReadError):  # rejected before most of it was sent
        assert status == 413
        return
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
