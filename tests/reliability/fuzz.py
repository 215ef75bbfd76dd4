"""Damaged pictures to every call that accepts one: no 5xx, no hang, no crash, no memory growth."""

import asyncio
import base64
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from tests.reliability import servers
from tests.reliability.client import NO_ANSWER, Client, Reply, connect
from tests.reliability.mutations import find_pictures, make_pictures, mutate
from tests.reliability.photographs import make_form, make_request
from tests.server import Server

CLIENTS = 6
PATIENCE = 30.0
MEMORY_EVERY = 250  # requests
INTACT_SHARE = 0.1  # of all pictures sent
JSON = "Content-Type: application/json"
VIEWS = ("overlay", "heatmap", "signed")
PICTURES = ("image/png", "image/jpeg", "image/webp", "application/json")


class Fuzzed(NamedTuple):
    """The result of one pass."""

    requests: int
    statuses: dict[int, int]
    faults: list[str]  # wrong answers; each names the file with its request
    slowest: float  # seconds
    peak: int  # the highest resident bytes of the workers
    seconds: float
    workers_kept: bool  # no worker was replaced


def make_requests(seed: int, pictures: list[bytes], models: list[str]) -> Callable[[], bytes]:
    """Return a function that makes the next request, which may be for any call."""
    source = random.Random(seed)

    def pick() -> bytes:
        picture = source.choice(pictures)
        return picture if source.random() < INTACT_SHARE else mutate(picture, pictures, source)

    def encode(content: bytes) -> str:
        return base64.b64encode(content).decode()

    def send_json(call: str, *headers: str, **content: Any) -> bytes:
        return make_request(call, json.dumps(content).encode(), JSON, *headers)

    def predict() -> bytes:
        return make_form(f"/predict?model={source.choice(models)}", [pick()])

    def predict_raw() -> bytes:
        return make_request(f"/predict?model={source.choice(models)}", pick())

    def gradcam() -> bytes:
        query = f"model={source.choice(models)}&view={source.choice(VIEWS)}"
        size = source.choice((0, 16, 224, 700))
        accept = f"Accept: {source.choice(PICTURES)}"
        return make_form(f"/gradcam?{query}&size={size}", [pick()], "image", accept)

    def predict_batch() -> bytes:
        contents = [pick() for _ in range(source.randint(1, 8))]
        return make_form(f"/predict/batch?model={source.choice(models)}", contents)

    def gradcam_batch() -> bytes:
        images = [encode(pick()) for _ in range(source.randint(1, 4))]
        view = source.choice((None, *VIEWS))
        return send_json("/gradcam/batch", images=images, model=source.choice(models), view=view)

    def infer() -> bytes:
        data = [encode(pick()) for _ in range(source.randint(1, 4))]
        tensor = {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}
        return send_json(f"/v2/models/{source.choice(models)}/infer", inputs=[tensor])

    def infer_binary() -> bytes:
        content = pick()
        binary = len(content).to_bytes(4, "little") + content
        parameters = {"binary_data_size": len(binary)}
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "parameters": parameters}
        head = json.dumps({"inputs": [tensor]}).encode()
        length = f"Inference-Header-Content-Length: {len(head)}"
        return make_request(f"/v2/models/{source.choice(models)}/infer", head + binary, length)

    single = (predict, predict, predict_raw, gradcam, gradcam)
    kinds = (*single, predict_batch, gradcam_batch, infer, infer_binary)
    return lambda: source.choice(kinds)()


def make_stock_requests(seed: int, pictures: list[bytes]) -> Callable[[], bytes]:
    """Return the same for the single call of stock BentoML."""
    source = random.Random(seed)

    def predict() -> bytes:
        picture = source.choice(pictures)
        intact = source.random() < INTACT_SHARE
        return servers.ask(servers.STOCK, picture if intact else mutate(picture, pictures, source))

    return predict


def gather_pictures() -> list[bytes]:
    """Return generated pictures, and those of the data sets if available."""
    data = os.environ.get("SIGHTGLASS_DATA")
    return make_pictures() + (find_pictures(Path(data)) if data else [])


async def fuzz(server: Server, make: Callable[[], bytes], requests: int, failures: Path) -> Fuzzed:
    """Send requests from a few concurrent clients. Save the failed ones in `failures`."""
    workers = server.find_workers()
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    memory: list[int] = []
    slowest, numbers, started = 0.0, count(), perf_counter()

    async def send_on(client: Client) -> None:
        nonlocal slowest
        while (number := next(numbers)) < requests:
            request = make()
            reply = await client.send(request)
            statuses[reply.status] += 1
            slowest = max(slowest, reply.seconds)
            if fault := find_fault(reply):
                failures.mkdir(parents=True, exist_ok=True)
                (failures / f"{number}.http").write_bytes(request)
                faults.append(f"{number}.http: {fault}")
            if number % MEMORY_EVERY == 0:
                memory.append(servers.measure_memory(server))

    async with connect(server.port, PATIENCE) as client:
        await asyncio.gather(*(send_on(client) for _ in range(CLIENTS)))
    return Fuzzed(
        requests,
        dict(sorted(statuses.items())),
        faults,
        slowest,
        max(memory),
        perf_counter() - started,
        server.find_workers() == workers,
    )


def find_fault(reply: Reply) -> str:
    """Return what is wrong with an answer, or an empty text."""
    if reply.status == NO_ANSWER:
        return f"no answer ({reply.fault})"
    if reply.status >= 500:
        return f"{reply.status} {reply.body[:300]!r}"
    if reply.status != 200 and not json.loads(reply.body)["error"]:
        return f"{reply.status} without a sentence"
    if b'"internal"' in reply.body:  # an error of one picture in a batch
        return f"{reply.body[:300]!r}"
    return ""
