"""Limits are checked before memory is spent: memory growth under excessive requests.

The memory is read fifty times per second while hundreds of clients send at the same time.
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
BOUND = 256 * MEGABYTE + 64 * MEGABYTE  # the default of MAX_INFLIGHT_BYTES, and a margin
CLIENTS = 200
CHUNK = 256 * 1024
LOOK_SECONDS = 0.02
SETTLING_SECONDS = 5.0
PATIENCE = 120.0


class Growth(NamedTuple):
    """The result of one case."""

    case: str
    outcomes: dict[str, int]  # statuses, or how connections ended
    grown: int  # bytes, at the peak
    kept: int  # bytes after the end


def make_cases() -> dict[str, bytes]:
    """Return the content that the clients of each case send."""
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
    """Return a black PNG with this side, which is a small file."""
    file = BytesIO()
    Image.new("1", (side, side)).save(file, "PNG", optimize=True)
    return file.getvalue()


def measure(server: Server, subject: str, clients: int = CLIENTS) -> list[Growth]:
    """Run all cases one after the other."""
    field = "images" if subject == servers.STOCK else "image"
    warm = servers.ask(subject, encode(Image.linear_gradient("L").resize((500, 375)), "JPEG"))
    asyncio.run(send_concurrently(server.port, warm, 16))
    return [
        measure_case(server, case, frame(content, field), clients)
        for case, content in make_cases().items()
    ]


def frame(content: bytes, field: str) -> bytes:
    """Return a form with one file."""
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


def measure_case(server: Server, case: str, request: bytes, clients: int) -> Growth:
    """Measure the growth while many clients send the same request at once."""
    before = servers.measure_memory(server)
    with watch_memory(server) as seen:
        outcomes = asyncio.run(send_concurrently(server.port, request, clients))
        time.sleep(SETTLING_SECONDS)  # work for clients that have left may still run
    grown = max(seen, default=before) - before
    return Growth(case, outcomes, grown, servers.measure_memory(server) - before)


@contextlib.contextmanager
def watch_memory(server: Server) -> Iterator[list[int]]:
    """Read the memory often, and collect the values in the list."""
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


async def send_concurrently(port: int, request: bytes, clients: int) -> dict[str, int]:
    """Send all requests at once. Return how many ended in which way."""
    ends = await asyncio.gather(*(send_whole(port, request) for _ in range(clients)))
    return dict(Counter(ends).most_common())


async def send_whole(port: int, request: bytes) -> str:
    """Send as fast as the server reads, without copying the request. Read the answer meanwhile."""
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
    except (OSError, EOFError, ValueError, TimeoutError) as error:
        return type(error).__name__
