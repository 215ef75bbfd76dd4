"""Short requests with long answers: many labels, large maps, a probability for each pixel."""

import base64
import json
import struct
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import httpx
from PIL import Image

from service.api.grpc.wire import write_bytes, write_integers, write_text
from tests.attacks import grpc
from tests.attacks.attack import Attack, send_until
from tests.contract.tree import PICTURE
from tests.server import Server, connect_client
from tests.service import mask_model
from tests.service.quadrants_model import encode, write_model

LABELS = 100_000
IMAGENET_21K = 21_841
MAP_SIDE = 256
MASK_SIDE, MASK_LABELS = 224, 20
MIN_SECONDS, SECONDS = 1.0, 10.0
UNREAD_SECONDS = 0.5
ADMITTED = (200, 429)
TEXT = base64.b64encode(PICTURE).decode()
NOISE = base64.b64encode(encode(Image.effect_noise((MASK_SIDE,) * 2, 90).convert("RGB"))).decode()
JSON = "application/json"


def write_labels(count: int) -> Callable[[Path, float], object]:
    """Return what writes a model of so many labels."""

    def write(models: Path, scale: float) -> None:
        labels = [f"synset n{number:08d} kind" for number in range(int(count * scale))]
        write_model(models / "many" / "1" / "model.onnx", labels=labels)

    return write


def write_maps(models: Path, scale: float) -> None:
    """Write a model of large maps."""
    side = MAP_SIDE if scale == 1 else MAP_SIDE // 4
    labels = [f"label {number}" for number in range(10)]
    path = models / "maps" / "1" / "model.onnx"
    write_model(path, side=side, grid=side, labels=labels)


def write_masks(models: Path, scale: float) -> None:
    """Write a model that segments, with many classes."""
    mask_model.write_model(
        models / "masks" / "1" / "model.onnx",
        width=MASK_SIDE,
        height=MASK_SIDE,
        labels=[f"class {number}" for number in range(max(4, int(MASK_LABELS * scale)))],
        palette=None,
        background=None,
    )


def send(server: Server, path: str, body: bytes, expected: Sequence[int]) -> list[str]:
    """Send one request. Return a sentence if its status is not `expected`."""
    headers = {"accept": JSON} | ({"content-type": JSON} if body.startswith(b"{") else {})
    with connect_client(server.port) as client:
        try:
            response = client.post(path, content=body, headers=headers)
        except httpx.TransportError as exc:
            return [f"{path}: {exc!r}"]
    is_expected = response.status_code in expected
    return [] if is_expected else [f"{path} answered {response.status_code}: {response.text[:80]}"]


def repeat(
    path: str, body: bytes, clients: int = 1, expected: Sequence[int] = ADMITTED
) -> Callable[[Server, float], list[str]]:
    """Return an attack that sends the same request again and again."""

    def run(server: Server, scale: float) -> list[str]:
        seconds = max(MIN_SECONDS, SECONDS * scale)
        return send_until(seconds, clients, lambda: send(server, path, body, expected))

    return run


def ask_for_attention(server: Server, scale: float) -> list[str]:
    """Ask where a model with large maps looks, while others have it look."""
    explain = repeat("/gradcam?model=maps", PICTURE)

    def ask() -> list[str]:
        with connect_client(server.port) as client:
            status = client.get("/models/maps/attention").status_code
        return [] if status in ADMITTED else [f"/models/maps/attention answered {status}"]

    with ThreadPoolExecutor(1) as pool:
        explaining = pool.submit(explain, server, scale)
        seen = send_until(max(MIN_SECONDS, SECONDS * scale), 8, ask)
        return seen + explaining.result()


def make_batch(images: int, **options: object) -> bytes:
    """A batch in the JSON of the native calls."""
    return json.dumps({"images": [TEXT] * images, **options}).encode()


def make_call(
    images: int, *outputs: str, image: str = TEXT, targets: int = 0, **parameters: object
) -> bytes:
    """A call of `/v2` in JSON, for these outputs."""
    inputs = [{"name": "image", "datatype": "BYTES", "shape": [images], "data": [image] * images}]
    if targets:
        target = {"name": "target", "datatype": "INT64", "shape": [images, targets]}
        inputs.append(target | {"data": [0] * (images * targets)})
    wanted = [{"name": name, "parameters": parameters} for name in outputs]
    return json.dumps({"inputs": inputs, "outputs": wanted}).encode()


def call_masks(server: Server, *, reads: bool) -> list[str]:
    """Call ModelInfer for a probability of each class for each pixel, with windows for all of it.

    `reads`: take the answer, instead of waiting until the server has given up.
    """
    image = write_text(1, "image") + write_text(2, "BYTES") + write_integers(3, [1])
    message = write_text(1, "masks") + write_bytes(5, image)
    message += write_bytes(6, write_text(1, "probabilities"))
    message += write_bytes(7, struct.pack("<I", len(PICTURE)) + PICTURE)
    windows = b"\0\4\x7f\xff\xff\xff" + b"\0\5\0\xff\xff\xff"  # and the largest frames
    with grpc.connect(grpc.find_port(server), windows) as connection:
        connection.sendall(
            grpc.make_frame(grpc.WINDOW, 0, 0, b"\x7f\xfe\xff\xff")
            + grpc.make_frame(grpc.HEADERS, grpc.END_HEADERS, 1, grpc.make_headers("ModelInfer"))
            + grpc.make_data(1, grpc.make_message(message))
        )
        if not reads:
            time.sleep(UNREAD_SECONDS)
            return []
        with connection.makefile("rb") as file:
            while head := file.read(9):
                file.read(int.from_bytes(head[:3], "big"))
                if head[3] == grpc.HEADERS and head[4] & grpc.END_STREAM:
                    return []
    return ["gRPC: the connection was closed before the end of the answer"]


def call_for_masks(clients: int, *, reads: bool) -> Callable[[Server, float], list[str]]:
    """Return an attack that calls for masks again and again."""

    def run(server: Server, scale: float) -> list[str]:
        seconds = max(MIN_SECONDS, SECONDS * scale)
        return send_until(seconds, clients, lambda: call_masks(server, reads=reads))

    return run


SCORES = ("logits", "probabilities")
MANY, FEW = write_labels(LABELS), write_labels(IMAGENET_21K)
V2 = "/v2/models/{}/infer"
ATTACKS = (
    Attack(
        "all of 100,000 labels",
        repeat("/predict?model=many&top_k=0", PICTURE, 2),
        write_models=MANY,
    ),
    Attack(
        "an unknown label of 100,000",
        repeat("/gradcam?model=many&target=synset+n000x1234", PICTURE, 4, (422, 429)),
        write_models=MANY,
    ),
    Attack(
        "all labels of 64 pictures",
        repeat("/predict/batch", make_batch(64, model="many", top_k=0), 4, (200, 413, 429)),
        write_models=FEW,
    ),
    Attack(
        "all labels of as many pictures as are admitted",
        repeat("/predict/batch", make_batch(5, model="many", top_k=0), 4),
        write_models=FEW,
    ),
    Attack(
        "all labels of v2 as texts",
        repeat(V2.format("many"), make_call(8, *SCORES, classification=2**31 - 1), 3),
        write_models=FEW,
    ),
    Attack(
        "all labels of v2 as numbers",
        repeat(V2.format("many"), make_call(16, *SCORES), 3),
        write_models=FEW,
    ),
    Attack(
        "large maps in JSON",
        repeat("/gradcam?model=maps&target_top=8", PICTURE, 2),
        write_models=write_maps,
    ),
    Attack(
        "a batch of large maps",
        repeat("/gradcam/batch", make_batch(2, model="maps", target_top=7), 2),
        write_models=write_maps,
    ),
    Attack("where a model with large maps looks", ask_for_attention, write_models=write_maps),
    Attack(
        "large maps of v2",
        repeat(V2.format("maps"), make_call(16, "cam", targets=8), 2, (200, 413, 429)),
        write_models=write_maps,
    ),
    Attack(
        "a few large maps of v2",
        repeat(V2.format("maps"), make_call(1, "cam", targets=8), 2),
        write_models=write_maps,
    ),
    Attack(
        "a probability of each class for each pixel",
        repeat(V2.format("masks"), make_call(1, "probabilities", image=NOISE), 2),
        write_models=write_masks,
    ),
    *(
        (
            Attack(
                "gRPC: a probability of each class for each pixel",
                call_for_masks(2, reads=True),
                write_models=write_masks,
                settings=grpc.LISTENING,
            ),
            Attack(
                "gRPC: the same, unread",
                call_for_masks(16, reads=False),
                write_models=write_masks,
                settings=grpc.LISTENING,
            ),
        )
        if find_spec("h2")
        else ()
    ),
)
