"""Hostile files in the model repository: none may harm the worker that serves."""

import base64
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
from onnx import helper, numpy_helper
from PIL import Image

from service.artifact.layout import MAX_FILES
from service.repository.sandbox import MAX_MEMORY_BYTES
from tests.attacks.attack import MEGABYTE, Attack
from tests.attacks.wire import connect_many, send_to_all
from tests.contract.tree import PICTURE
from tests.server import PATIENCE, Server
from tests.service.artifact.spoiled import Spoil, write_spoiled
from tests.service.quadrants_model import encode, write_model

MAX_WORKER_GROWN = 64 * MEGABYTE
DIMENSIONS = 60_000
ATTRIBUTES = 8_000_000
GROWN_BYTES = 3 << 30
SPARSE_BYTES = 1 << 42
CARD_VALUES = 480_000  # in 2 MB
MAX_CARD_GROWN = 4 * MEGABYTE
FOLDERS = 30_000
FILES = 9000
CROWDED_SECONDS = 3.0
INDEXED = 900
SETTLED = 10  # names, after which the worker's memory is measured
MAX_NAME_GROWN = 40_000
LINKS = 19_000
LINKED = 100
POLL_SECONDS = 0.02
LINGER_SECONDS = 1.5


def link_endless_device(server: Server, _: float) -> list[str]:
    """Link a device that can be read without end."""
    path = make_path(server, "endless")
    path.symlink_to("/dev/zero")
    return expect(server, "endless", "failed", "is a device")


def put_pipe(server: Server, _: float) -> list[str]:
    """Put a pipe that nobody writes to, then a new version of a model that is served."""
    os.mkfifo(make_path(server, "a-pipe"))
    write_model(make_path(server, "quadrants", 2))
    return [
        *expect(server, "a-pipe", "failed", "is a pipe"),
        *expect(server, "quadrants", "ready", version=2),
    ]


def put_file_of_terabytes(server: Server, _: float) -> list[str]:
    """Put a file without content that takes hours to read, then a new version of a model."""
    path = make_path(server, "sparse")
    path.touch()
    os.truncate(path, SPARSE_BYTES)
    write_model(make_path(server, "quadrants", 2))
    return [
        *expect(server, "sparse", "failed", "are allowed here"),
        *expect(server, "quadrants", "ready", version=2),
    ]


def declare_many_dimensions(server: Server, scale: float) -> list[str]:
    """Declare a tensor whose number of values takes minutes to compute."""

    def spoil(model: onnx.ModelProto, _: dict[str, Any]) -> None:
        model.graph.initializer[0].dims.extend([1 << 62] * int(DIMENSIONS * scale))

    return expect_spoiled(server, "dimensions", spoil, "dimensions; at most")


def add_many_attributes(server: Server, scale: float) -> list[str]:
    """Add millions of empty attributes, of two bytes in the file and 180 in memory."""
    path = make_path(server, "attributes")

    def spoil(model: onnx.ModelProto, _: dict[str, Any]) -> None:
        count = max(1_100_000, int(ATTRIBUTES * scale))
        node = helper.make_node("Abs", ["zero"], ["unused"]).SerializeToString() + b"\x2a\0" * count
        model.graph.node.append(onnx.NodeProto.FromString(node))

    write_spoiled(path.with_name("other"), spoil)
    path.with_name("other").rename(path)
    return expect(server, "attributes", "failed", "attributes; at most")


def repeat_fields(server: Server, scale: float) -> list[str]:
    """Repeat the empty name of the producer millions of times, two bytes each."""
    path = make_path(server, "repeated")
    write_spoiled(path.with_name("other"), lambda *_: None)
    with path.with_name("other").open("ab") as file:
        file.write(b"\x12\0" * max(100_000, int(ATTRIBUTES * scale)))
    path.with_name("other").rename(path)
    return expect(server, "repeated", "failed", "fields beside its graph")


def grow_with_the_batch(server: Server, scale: float) -> list[str]:
    """Take gigabytes as soon as a batch has three images."""

    def spoil(model: onnx.ModelProto, _: dict[str, Any]) -> None:
        constants: dict[str, np.ndarray[Any, Any]] = {
            "vast": np.array([int(GROWN_BYTES * scale) // 4], np.int64),
            "one": np.array([1], np.int64),
            "two": np.array([2], np.int64),
            "none": np.array(0, np.float32),
        }
        model.graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in constants.items()
        )
        softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
        softmax.input[0] = "raised"
        at = list(model.graph.node).index(softmax)
        added = (
            helper.make_node("Shape", ["image"], ["rows"], start=0, end=1),
            helper.make_node("Greater", ["rows", "two"], ["is_large"]),
            helper.make_node("Where", ["is_large", "vast", "one"], ["size"]),
            helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
            helper.make_node("ReduceMax", ["zeros"], ["nought"], keepdims=0),
            helper.make_node("Mul", ["nought", "none"], ["nothing"]),
            helper.make_node("Add", ["logits", "nothing"], ["raised"]),
        )
        for offset, node in enumerate(added):
            model.graph.node.insert(at + offset, node)

    return expect_spoiled(server, "growing", spoil, "each image must be computed alone")


def hide_large_golden_picture(server: Server, scale: float) -> list[str]:
    """Put a golden picture of 16 million pixels in the card."""
    side = int(4096 * scale**0.5)
    picture = base64.b64encode(encode(Image.new("L", (side, side)))).decode()

    def spoil(_: onnx.ModelProto, card: dict[str, Any]) -> None:
        for golden in card["golden"]:
            golden["image"] = picture

    return expect_spoiled(server, "golden", spoil, "golden test 1")


def fill_card(server: Server, scale: float) -> list[str]:
    """Write a card of millions of values."""

    def spoil(_: onnx.ModelProto, card: dict[str, Any]) -> None:
        card["training"]["notes"] = [[]] * max(1_000_000, int(2_000_000 * scale))

    return expect_spoiled(server, "values", spoil, "values")


def fill_valid_cards(server: Server, scale: float) -> list[str]:
    """Write valid models whose cards have as many values as they may have, mostly empty lists."""
    first = make_path(server, "full-0")
    write_model(first.with_name("other"), training={"notes": [[]] * CARD_VALUES})
    count = max(2, int(12 * scale))
    paths = [first, *(make_path(server, f"full-{number}") for number in range(1, count))]
    for path in paths[1:]:
        os.link(first.with_name("other"), path)
    first.with_name("other").rename(first)
    before = measure(server)
    faults = [fault for path in paths for fault in expect(server, path.parts[-3], "ready")]
    for _ in range(int(100 * scale)):
        server.client.get("/models")
    if (grown := measure(server) - before) > max(MAX_WORKER_GROWN, count * MAX_CARD_GROWN):
        faults.append(f"the worker grew by {grown // MEGABYTE} MB for {count} models")
    return faults


def crowd_folder(server: Server, scale: float) -> list[str]:
    """Make so many folders that listing them takes long."""
    models = find_models(server)
    for number in range(int(FOLDERS * scale)):
        (models / f"empty-{number}").mkdir()
    time.sleep(1)
    listed = server.client.get("/models").json()["models"]
    return [] if [model["name"] for model in listed] == ["quadrants"] else [f"/models: {listed}"]


def rotate_names(server: Server, scale: float) -> list[str]:
    """Serve a model under one long name after the other. Nothing of the earlier ones may stay."""
    source = find_models(server) / "quadrants" / "1" / "model.onnx"
    before = 0
    for number in range(max(2 * SETTLED, int(60 * scale))):
        name = f"{'r' * 180}{number}"
        path = make_path(server, name)
        os.link(source, path)
        if not poll(partial(explains, server, name)):
            return [f"model {number} does not answer"]
        shutil.rmtree(path.parents[1])
        if not poll(lambda: b"rrr" not in server.client.get("/metrics").content):
            return [f"the metrics still have model {number}"]
        if number == SETTLED:
            before = measure(server)
    each = (measure(server) - before) / (number - SETTLED)
    return [f"the worker grew by {each:.0f} bytes a name"] if each > MAX_NAME_GROWN else []


def crowd_with_links(server: Server, scale: float) -> list[str]:
    """Link a folder of a hundred folders thousands of times. Then a new model must be served."""
    models = find_models(server)
    for number in range(LINKED):
        (models / "_linked" / str(number)).mkdir(parents=True)
    for number in range(int(LINKS * scale)):
        (models / f"_{number}").symlink_to("_linked")
    write_model(make_path(server, "quadrants", 2))
    return expect(server, "quadrants", "ready", version=2)


def crowd_with_files(server: Server, scale: float) -> list[str]:
    """Put thousands of files of one byte, which are no models."""
    for number in range(int(FILES * scale)):
        make_path(server, f"m{number}").write_bytes(b"x")
    time.sleep(CROWDED_SECONDS)
    listed = [model["name"] for model in server.client.get("/models").json()["models"]]
    is_right = "quadrants" in listed and len(listed) <= MAX_FILES
    return [] if is_right else [f"/models lists {len(listed)} models"]


def ask_for_index(server: Server, scale: float) -> list[str]:
    """List hundreds of versions, again and again on many connections, and read nothing."""
    for number in range(INDEXED):
        make_path(server, f"{'m' * 190}{number}").write_bytes(b"x")
    if not poll(lambda: len(server.client.get("/v1/models").json()["models"]) > INDEXED):
        return ["not all models are listed"]
    call = b"POST /v2/repository/index HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n"
    with connect_many(server, max(600, int(1200 * scale))) as connections:
        send_to_all(connections, call * 2)
        time.sleep(1)
        status = server.client.post("/predict", content=PICTURE, timeout=60).status_code
    return [] if status == 200 else [f"a picture got {status}"]


def explains(server: Server, name: str) -> bool:
    """Return whether a model explains a picture."""
    response = server.client.post(f"/gradcam?model={name}", content=PICTURE)
    return bool(response.status_code == 200)


def find_models(server: Server) -> Path:
    """Return the model folder of the server under attack."""
    return server.log_path.parent / "models"


def make_path(server: Server, name: str, version: int = 1) -> Path:
    """Return the path of a file to write."""
    path = find_models(server) / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True)
    return path


def expect_spoiled(server: Server, name: str, spoil: Spoil, reason: str) -> list[str]:
    """Write a spoiled model, and expect that it is rejected for this reason."""
    write_spoiled(make_path(server, name), spoil)
    return expect(server, name, "failed", reason)


def expect(server: Server, name: str, state: str, reason: str = "", version: int = 1) -> list[str]:
    """Wait until a version is loaded or rejected, and return what was not as expected.

    The worker itself may not grow meanwhile. The process of the trial may.
    """
    before = peak = measure(server)
    seen: dict[str, Any] = {}

    def is_done() -> bool:
        nonlocal peak, seen
        peak = max(peak, measure(server))
        response: httpx.Response = server.client.get(f"/models/{name}")
        versions = response.json().get("versions", [])
        seen = next((it for it in versions if it["version"] == str(version)), {})
        return seen.get("state") in ("ready", "failed")

    if not poll(is_done):
        return [f"{name} was neither loaded nor rejected"]
    time.sleep(LINGER_SECONDS)  # a few answers of `/livez` more say what is usual
    faults = []
    if seen["state"] != state or reason not in (seen["reason"] or ""):
        faults.append(f"{name} is {seen['state']}: {seen['reason']}")
    if peak - before > MAX_WORKER_GROWN:
        faults.append(f"the worker grew by {(peak - before) // MEGABYTE} MB")
    return faults


def poll(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; return whether it does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True


def measure(server: Server) -> int:
    """Return the resident bytes of the worker without its children."""
    return sum(psutil.Process(pid).memory_info().rss for pid in server.find_workers())


POLLING = {"model_poll_seconds": 0.1}
ON_FILES = (
    link_endless_device,
    put_pipe,
    declare_many_dimensions,
    add_many_attributes,
    repeat_fields,
    grow_with_the_batch,
    hide_large_golden_picture,
    fill_card,
    fill_valid_cards,
    crowd_folder,
    crowd_with_files,
    crowd_with_links,
    rotate_names,
)
ATTACKS = (
    *(
        Attack(
            f"model file: {attack.__name__.replace('_', ' ')}",
            attack,
            max_grown=MAX_MEMORY_BYTES,  # of the process of the trial; `expect` sees to the worker
            settings=POLLING,
        )
        for attack in ON_FILES
    ),
    # Where two engines are compared, the worker itself reads the file.
    Attack("a file of terabytes", put_file_of_terabytes, settings=POLLING | {"device": "auto"}),
    Attack("an index of many versions for many", ask_for_index, settings=POLLING),
)
