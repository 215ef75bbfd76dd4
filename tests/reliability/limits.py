"""Limits hold before memory is spent: how much the workers grow under what is far too much.

Memory is looked at fifty times a second while hundreds of clients send at once.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple

import numpy as np
import psutil
from PIL import Image

from tests.contract.operations.test_memory import make_bomb
from tests.reliability import servers
from tests.reliability.client import read_reply
from tests.reliability.photographs import BOUNDARY
from tests.server import Server
from tests.service.quadrants_model import encode

MEGABYTE = 1 << 20
BOUND = 256 * MEGABYTE + 64 * MEGABYTE  # MAX_INFLIGHT_BYTES as it is by default, and a margin
CLIENTS = 200
CHUNK = 256 * 1024
LOOK_SECONDS = 0.02
SETTLING_SECONDS = 5.0
PATIENCE = 120.0


class Growth(NamedTuple):
    """What came of one crowd."""

    case: str
    outcomes: dict[str, int]  # statuses, or how the connection ended
    grown: int  # bytes, at the peak
    kept: int  # bytes, once all was over


def make_crowds() -> dict[str, bytes]:
    """What each of the clients sends."""
    noise = np.random.default_rng(0).integers(0, 256, (1900, 2000, 3), np.uint8)
    large = encode(Image.fromarray(noise), "JPEG", quality=96, subsampling=0)
    large = large[: 9 * MEGABYTE].ljust(9 * MEGABYTE, b"\0")
    return {
        "bodies of 9 MB, legal": large,
        "bodies of 40 MB, too large": bytes(40 * MEGABYTE),
        "pictures of 400 megapixels in 50 kB": make_bomb(),
        "pictures of 49 megapixels in 6 kB, legal": make_sparse(7000),
    }


def make_sparse(side: int) -> bytes:
    """A black PNG of so many pixels each way, small as a file."""
    file = BytesIO()
    Image.new("1", (side, side)).save(file, "PNG", optimize=True)
    return file.getvalue()


def measure(server: Server, subject: str, clients: int = CLIENTS) -> list[Growth]:
    """All crowds, one after the other."""
    field = "images" if subject == servers.STOCK else "image"
    warm = servers.ask(subject, encode(Image.linear_gradient("L").resize((500, 375)), "JPEG"))
    asyncio.run(crowd(server.port, warm, 16))
    return [
        measure_crowd(server, case, frame(content, field), clients)
        for case, content in make_crowds().items()
    ]


def frame(content: bytes, field: str) -> bytes:
    """A form with one file."""
    before = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    ).encode()
    body = before + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        "POST /predict HTTP/1.1\r\nHost: test\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def measure_crowd(server: Server, case: str, request: bytes, clients: int) -> Growth:
    """How much the workers grow while so many send the same at once."""
    before = servers.measure_memory(server)
    with watch_memory(server) as seen:
        outcomes = asyncio.run(crowd(server.port, request, clients))
        time.sleep(SETTLING_SECONDS)  # what was begun for those who gave up is still at work
    grown = max(seen, default=before) - before
    return Growth(case, outcomes, grown, servers.measure_memory(server) - before)


@contextlib.contextmanager
def watch_memory(server: Server) -> Iterator[list[int]]:
    """Look often; the list holds what was seen."""
    seen: list[int] = []
    stopped = threading.Event()

    workers = [psutil.Process(pid) for pid in server.find_workers()]

    def look() -> None:
        while not stopped.wait(LOOK_SECONDS):
            with contextlib.suppress(psutil.NoSuchProcess):
                seen.append(sum(worker.memory_info().rss for worker in workers))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        stopped.set()
        looking.join()


async def crowd(port: int, request: bytes, clients: int) -> dict[str, int]:
    """All at once; how each ended."""
    ends = await asyncio.gather(*(send_whole(port, request) for _ in range(clients)))
    return dict(Counter(ends).most_common())


async def send_whole(port: int, request: bytes) -> str:
    """Send as fast as it is taken, without a copy of one's own; listen meanwhile."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            answer = asyncio.create_task(read_reply(reader))
            view = memoryview(request)
            with contextlib.suppress(OSError):
                for at in range(0, len(view), CHUNK):
                    if answer.done():
                        break
                    writer.write(view[at : at + CHUNK])
                    await writer.drain()
            try:
                status, _, _ = await answer
            finally:
                writer.close()
            return str(status)
    except (OSError, EOFError, ValueError, TimeoutError) as fault:
        return type(fault).__name__
