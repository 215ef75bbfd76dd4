"""An hour of mixed load: growth of memory, descriptors, threads and latency.

The load has photographs, digits, explanations, batches, `/v2` requests, invalid and oversized
requests, and clients that disconnect. A second version is added and removed. Every few seconds the
module writes a line of JSON. `soak_plot` draws and judges these lines.
"""

import asyncio
import base64
import contextlib
import itertools
import json
import random
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import psutil
from PIL import Image

from tests.reliability import servers
from tests.reliability.client import NO_ANSWER, Client, Reply, connect
from tests.reliability.photographs import make_form, make_photographs, make_request
from tests.server import ROOT, Server

REQUESTS_PER_SECOND = 4.0
SAMPLE_SECONDS = 10.0
SWAP_SECONDS = 150.0  # between adding and removing the second version
CALIBRATION_RUNS = 5
JSON = "Content-Type: application/json"


class MixEntry(NamedTuple):
    """A kind of request, how often it is sent, and the expected status."""

    kind: str
    weight: int
    make: Callable[[random.Random], bytes]
    status: int


def make_mix(subject: str) -> list[MixEntry]:
    """Return the mix. Stock BentoML has one call, and answers 500 to invalid pictures."""
    photographs = make_photographs()
    digit = (ROOT / "docs" / "examples" / "seven.png").read_bytes()
    text = base64.b64encode(digit).decode()
    field = "images" if subject == servers.STOCK else "image"

    def pick(source: random.Random) -> bytes:
        return source.choice(photographs)

    def send_json(call: str, **content: Any) -> bytes:
        return make_request(call, json.dumps(content).encode(), JSON, "Accept: application/json")

    broken = 500 if subject == servers.STOCK else 422
    common = [
        MixEntry("photograph", 40, lambda s: make_form("/predict", [pick(s)], field), 200),
        MixEntry("truncated", 4, lambda s: make_form("/predict", [pick(s)[:9000]], field), broken),
        MixEntry("metrics", 2, lambda _: make_request("/metrics", method="GET"), 200),
        MixEntry("nowhere", 1, lambda s: make_request(f"/{s.random()}", method="GET"), 404),
    ]
    if subject == servers.STOCK:
        return common
    infer = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [text]}
    return [
        *common,
        MixEntry("digit", 25, lambda _: make_form("/predict?model=lenet5", [digit]), 200),
        MixEntry("overlay", 8, lambda s: make_form("/gradcam", [pick(s)]), 200),
        MixEntry("map", 8, lambda _: send_json("/gradcam", image=text, model="lenet5"), 200),
        MixEntry("batch", 6, lambda _: make_form("/predict/batch?model=lenet5", [digit] * 4), 200),
        MixEntry("infer", 3, lambda _: send_json("/v2/models/lenet5/infer", inputs=[infer]), 200),
        MixEntry("text", 2, lambda _: make_form("/predict", [b"I am no cat."]), 415),
        MixEntry("too large", 1, lambda _: announce(20_000_000), 413),
        MixEntry("models", 1, lambda _: make_request("/models", method="GET"), 200),
    ]


def announce(size: int) -> bytes:
    """Return a request whose body never arrives."""
    return f"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n".encode()


def soak(subject: str, minutes: float, report: Path) -> None:
    """Run one subject under the mix and write the samples to `report`."""
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        folder = Path(name)
        shutil.copytree(ROOT / "models", folder / "models")
        with servers.start(subject, folder, models_dir=folder / "models") as server:
            report.parent.mkdir(parents=True, exist_ok=True)
            with report.open("w") as file:
                asyncio.run(_soak(subject, server, folder / "models", minutes * 60, file.write))


async def _soak(
    subject: str, server: Server, models: Path, seconds: float, write: Callable[[str], object]
) -> None:
    outcomes: list[tuple[MixEntry, Reply]] = []
    async with connect(server.port) as client, asyncio.TaskGroup() as group:
        group.create_task(_send_mix(subject, client, server.port, seconds, outcomes))
        if subject == servers.SIGHTGLASS:
            group.create_task(_swap_versions(models / "lenet5", seconds))
        started = perf_counter()
        while (now := perf_counter() - started) < seconds:
            await asyncio.sleep(min(SAMPLE_SECONDS, seconds - now))
            fresh = outcomes.copy()
            outcomes.clear()
            sample = _sample(server, fresh) | {"second": round(perf_counter() - started, 1)}
            write(json.dumps(sample) + "\n")


async def _send_mix(
    subject: str, client: Client, port: int, seconds: float, outcomes: list[tuple[MixEntry, Reply]]
) -> None:
    """Send an open loop at a low rate and at random times."""
    source = random.Random(0)
    entries = make_mix(subject)
    weights = [entry.weight for entry in entries]
    end = perf_counter() + seconds

    async def send(entry: MixEntry) -> None:
        outcomes.append((entry, await client.send(entry.make(source))))

    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            if perf_counter() > end:
                return
            [entry] = source.choices(entries, weights)
            group.create_task(send(entry))
            if number % 50 == 0:
                group.create_task(disconnect_half_way(port, entries[0].make(source), source))
            await asyncio.sleep(source.expovariate(REQUESTS_PER_SECOND))


async def disconnect_half_way(port: int, request: bytes, source: random.Random) -> None:
    """Send a part of a request or all of it, and disconnect."""
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request[: source.choice([100, len(request) // 2, len(request)])])
        await writer.drain()
        await asyncio.sleep(source.uniform(0, 0.05))
        writer.transport.abort()


async def _swap_versions(model: Path, seconds: float) -> None:
    """Add and remove a second version repeatedly."""
    end = perf_counter() + seconds - SWAP_SECONDS
    for is_there in itertools.cycle([False, True]):
        if perf_counter() > end:
            return
        await asyncio.sleep(SWAP_SECONDS)
        if is_there:
            shutil.rmtree(model / "2")
        else:
            shutil.copytree(model / "1", model / "3")
            (model / "3").rename(model / "2")


def _sample(server: Server, outcomes: list[tuple[MixEntry, Reply]]) -> dict[str, Any]:
    """Measure the workers, and summarise the answers since the last sample."""
    processes = [psutil.Process(pid) for pid in server.find_workers()]
    by_kind: dict[str, list[float]] = {}
    surprises: Counter[str] = Counter()
    for entry, reply in outcomes:
        if reply.status == entry.status:
            by_kind.setdefault(entry.kind, []).append(reply.seconds)
        else:
            outcome = reply.fault if reply.status == NO_ANSWER else str(reply.status)
            surprises[f"{entry.kind}: {outcome}"] += 1
    return {
        "rss": sum(p.memory_info().rss for p in processes),
        "descriptors": sum(p.num_fds() for p in processes),
        "threads": sum(p.num_threads() for p in processes),
        "cpu_seconds": round(sum(sum(p.cpu_times()[:2]) for p in processes), 2),
        "answered": len(outcomes) - surprises.total(),
        "surprises": dict(surprises),
        "median_seconds": {kind: statistics.median(s) for kind, s in sorted(by_kind.items())},
        "calibration": calibrate(),
    }


def calibrate() -> float:
    """Return the seconds to decode one picture now, which shows the machine's other load."""
    content = make_calibration_picture()
    seconds = []
    for _ in range(CALIBRATION_RUNS):
        started = perf_counter()
        with Image.open(BytesIO(content)) as image:
            image.load()
        seconds.append(perf_counter() - started)
    return statistics.median(seconds)


def make_calibration_picture() -> bytes:
    """Return the same JPEG for every call."""
    return (ROOT / "docs" / "examples" / "parrot.jpg").read_bytes()


def read_samples(report: Path) -> Iterator[dict[str, Any]]:
    """Read the lines of a report."""
    with report.open() as file:
        for line in file:
            yield json.loads(line)
