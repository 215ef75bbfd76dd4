"""Requests whose body or headers make the server work: JSON, forms, numbers, lists, encodings.

Nothing here is large for a reason: each body is short, or its work is long for its length.
"""

import base64
import gzip
import json
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx

from tests.attacks import picture_files as files
from tests.attacks.attack import MEGABYTE, Attack, send_until
from tests.contract.tree import PICTURE
from tests.server import Server, connect_client

TEXT = base64.b64encode(PICTURE).decode()
JSON = {"content-type": "application/json"}
FORM = {"content-type": "multipart/form-data; boundary=x"}
SMALL = 96 * MEGABYTE  # for a body of a few megabytes
BATCH_BYTES = 60 * MEGABYTE
MIN_SECONDS = 1.0  # so that `/livez` and the good client are answered several times


def send(server: Server, path: str, body: bytes, headers: dict[str, str]) -> list[str]:
    """Send one body. Return a sentence if the server fails, or repeats much of the body."""
    with connect_client(server.port) as client:
        try:
            response = client.post(path, content=body, headers=headers)
        except httpx.TransportError:  # it was rejected, and the connection closed
            return []
    path = path[:40]
    seen = [f"{path} answered {response.status_code}"] if response.status_code == 500 else []
    if response.status_code != 200 and len(response.content) > 4096:
        seen.append(f"{path} answered with {len(response.content)} bytes: {response.text[:80]}")
    return seen


def repeat(
    path: str, make_body: Callable[[float], bytes], headers: dict[str, str], clients: int = 1
) -> Callable[[Server, float], list[str]]:
    """Return an attack that sends the body of a scale again and again, for a second or more."""

    def run(server: Server, scale: float) -> list[str]:
        sent = partial(send, server, path, make_body(scale), headers)
        return send_until(max(MIN_SECONDS, 5 * scale), clients, sent)

    return run


def make_keys(scale: float) -> bytes:
    """Many names; the last is given twice."""
    names = [f'"{number}":0' for number in range(int(400_000 * scale))]
    return ("{" + ",".join([*names, '"x":1,"x":2']) + "}").encode()


def make_targets(scale: float) -> bytes:
    """A list of labels with far too many items."""
    items = int(3_000_000 * scale)
    return f'{{"image":"{TEXT}","target":[{",".join(["0"] * items)}]}}'.encode()


def make_zeros(scale: float) -> bytes:
    """A list of pictures that are numbers."""
    return json.dumps({"images": [0] * int(2_000_000 * scale)}).encode()


def make_label(scale: float) -> bytes:
    """A label of several megabytes."""
    return json.dumps({"image": TEXT, "target": "dog " * int(3_000_000 * scale)}).encode()


def make_texts(scale: float) -> bytes:
    """Far too many short texts."""
    return ('{"image":[' + ",".join(['""'] * int(3_000_000 * scale)) + "]}").encode()


def make_quotes(scale: float) -> bytes:
    """One text of escaped quotes alone."""
    return ('{"image":"' + '\\"' * int(6_000_000 * scale) + '"}').encode()


def make_escapes(scale: float) -> bytes:
    """A picture in base64 of which every character is an escape."""
    return ('{"image":"' + "\\u0041" * int(2_400_000 * scale) + '"}').encode()


def make_pictures(scale: float) -> bytes:
    """A batch as long as a request may be."""
    picture = base64.b64encode(PICTURE + bytes(int(BATCH_BYTES * scale / 64 * 0.75))).decode()
    return json.dumps({"images": [picture] * 64}).encode()


def make_depth(scale: float) -> bytes:
    """Lists in lists."""
    return b'{"image":' + b"[" * int(10_000_000 * scale)


def make_form(scale: float) -> bytes:
    """One part of a form as long as a request may be."""
    head = b'--x\r\ncontent-disposition: form-data; name="image"\r\n\r\n'
    return head + b"\r\n--" * int(BATCH_BYTES * scale / 4) + b"\r\n--x--\r\n"


def make_heads(scale: float) -> bytes:
    """Parts of a form whose heads are slow to read; fewer would be read without a thread."""
    head = b"--x\r\ncontent-disposition: form-data; name=x" + b';a="\\' * 180
    return (head + b"\r\n\r\nx\r\n") * int(255 * (0.5 + scale / 2)) + b"--x--\r\n"


def make_numbers(scale: float) -> bytes:
    """As many numbers as a tensor may have in JSON."""
    pixels = ",".join(["255"] * int(1_000_000 * scale))
    tensor = '{"name":"image","datatype":"UINT8","shape":[64,32,32,3],"data":[%s]}'
    return f'{{"inputs":[{tensor % pixels}]}}'.encode()


def make_classes(scale: float) -> bytes:
    """A batch of which all classes are asked for as texts, in both outputs that have some."""
    count = max(1, int(64 * scale))
    wanted = [
        {"name": name, "parameters": {"classification": 2**31 - 1}}
        for name in ("logits", "probabilities")
    ]
    image = {"name": "image", "datatype": "BYTES", "shape": [count], "data": [TEXT] * count}
    return json.dumps({"inputs": [image], "outputs": wanted}).encode()


def make_empty_lists(scale: float) -> bytes:
    """A tensor of lists that have no values, as long as a request may be."""
    lists = b"[]," * int(BATCH_BYTES * scale / 3)
    return (
        b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,32,32,3],"data":[%b[]]}]}'
        % lists
    )


def make_blank_lists(scale: float) -> bytes:
    """The same, with a blank in each."""
    return make_empty_lists(scale).replace(b"[]", b"[ ]")


def make_commas(scale: float) -> bytes:
    """A tensor that is no list of numbers, as long as a request may be."""
    return b'{"inputs":[{"name":"image","data":[' + b"," * int(BATCH_BYTES * scale)


def make_blanks(scale: float) -> bytes:
    """Blanks between two numbers, as long as a request may be."""
    blanks = b" " * int(BATCH_BYTES * scale)
    head = b'{"inputs":[{"name":"image","datatype":"UINT8","shape":[1,32,32,3],"data":[1,'
    return head + blanks + b"2]}]}"


def make_bomb(scale: float) -> bytes:
    """A short body that unpacks to ten times what a picture may have."""
    return gzip.compress(bytes(int(100 * MEGABYTE * scale)), 9)


def fill_bodies_and_decoders(server: Server, scale: float) -> list[str]:
    """Send the longest binary body while PNGs with texts keep all decoders full."""
    picture = files.insert_chunks([files.chunk(b"teSt", bytes(int(BATCH_BYTES * scale / 8)))])
    elements = (struct.pack("<I", len(picture)) + picture) * 8
    tensor = {
        "name": "image",
        "datatype": "BYTES",
        "shape": [8],
        "parameters": {"binary_data_size": len(elements)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    lengths = {"inference-header-content-length": str(len(head))}
    texts = files.write_texts(60, 1_000_000)
    long = repeat(INFER, lambda _: head + elements, lengths, 2)
    full = repeat("/predict", lambda _: texts, {}, 8)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(run, server, scale) for run in (long, full)]
        return [sentence for run in runs for sentence in run.result()]


def send_long_headers(server: Server, scale: float) -> list[str]:
    """Headers and queries as long as they may be, with as many entries as possible."""
    entries = int(60_000 * (0.5 + scale / 2))
    headers = [
        {"accept": "image/png;q=0.1," + "a," * (entries // 2)},
        {"accept-encoding": "gzip;q=0.1," + "a," * (entries // 2)},
        {"content-type": "multipart/form-data" + ';a="\\' * (entries // 5)},
    ]
    queries = ["a=b&" * (entries // 4), "target=" + "%41" * (entries // 3), "&" * entries]
    seen: list[str] = []
    end = time.monotonic() + max(MIN_SECONDS, 5 * scale)
    while time.monotonic() < end and not seen:
        for header in headers:
            seen += send(server, "/gradcam", PICTURE, header)
        for query in queries:
            seen += send(server, f"/gradcam?{query}", PICTURE, {})
    return seen


def send_unknown_labels(server: Server, scale: float) -> list[str]:
    """Labels that are nearly right, so that suggestions are searched."""
    attack = repeat(f"/gradcam?target={'top lfet ' * 1000}", lambda _: PICTURE, {}, clients=4)
    return attack(server, scale)


def send_long_lengths(server: Server, scale: float) -> list[str]:
    """Lengths of the JSON that are far beyond the body, or are numbers of thousands of digits."""
    lengths = ["0" * 20 + "9" * 19, "0" * 5000 + "13", "9" * 5000, "9" * 19]
    seen: list[str] = []
    end = time.monotonic() + max(MIN_SECONDS, 5 * scale)
    while time.monotonic() < end and not seen:
        for length in lengths:
            seen += send(server, INFER, b"{", {"inference-header-content-length": length})
    return seen


INFER = "/v2/models/quadrants/infer"
ATTACKS = (
    Attack("names given twice", repeat("/predict", make_keys, JSON), SMALL),
    Attack("names given twice in v2", repeat(INFER, make_keys, {}), SMALL),
    Attack("many targets", repeat("/gradcam", make_targets, JSON), SMALL),
    Attack("many pictures that are numbers", repeat("/predict/batch", make_zeros, JSON), SMALL),
    Attack("many pictures for one", repeat("/predict", make_zeros, JSON), SMALL),
    Attack("a label of megabytes", repeat("/gradcam", make_label, JSON), SMALL),
    Attack("many short texts", repeat("/predict", make_texts, JSON), SMALL),
    Attack("a text of quotes", repeat("/predict", make_quotes, JSON), SMALL),
    Attack("a text of escapes", repeat("/predict", make_escapes, JSON), SMALL),
    Attack("the longest batch in JSON", repeat("/predict/batch", make_pictures, JSON, 2)),
    Attack("lists in lists", repeat("/predict", make_depth, JSON), SMALL),
    Attack(
        "the longest part of a form",
        repeat("/predict/batch", make_form, FORM, 2),
    ),
    Attack("heads of a form's parts", repeat("/predict", make_heads, FORM, 3), SMALL),
    Attack("numbers in JSON", repeat(INFER, make_numbers, {}, 2), SMALL),
    Attack("all classes as texts", repeat(INFER, make_classes, {}, 2)),
    Attack("a tensor of empty lists", repeat(INFER, make_empty_lists, {}, 4)),
    Attack("a tensor of lists with a blank", repeat(INFER, make_blank_lists, {}, 4)),
    Attack("a tensor of commas", repeat(INFER, make_commas, {}, 2)),
    Attack("a tensor of blanks", repeat(INFER, make_blanks, {}, 2)),
    Attack("a body that unpacks", repeat("/predict", make_bomb, {"content-encoding": "gzip"}, 4)),
    Attack(
        "the longest body beside full decoders",
        fill_bodies_and_decoders,
        settings={"decode_threads": 4},
    ),
    Attack("long headers", send_long_headers, SMALL),
    Attack("long lengths of the JSON", send_long_lengths, SMALL),
    Attack("unknown labels", send_unknown_labels, SMALL),
)
