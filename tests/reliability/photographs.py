"""Photographs of 500 x 375, and the bytes of requests that contain them.

The pictures come from docs/examples, so this needs no data set. The module does not know servers.
"""

import random
from pathlib import Path

from PIL import Image

from tests.server import ROOT
from tests.service.quadrants_model import encode

SIZE = (500, 375)
EXAMPLES = ("dog_and_cat.jpg", "parrot.jpg", "dragonfly.jpg")
BOUNDARY = "sightglass-reliability"
MAGIC = {
    b"\x89PNG": "image/png",
    b"RIFF": "image/webp",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"II*": "image/tiff",
    b"MM": "image/tiff",
}
VARIANTS = 8  # of each example, so that successive requests differ


def make_photographs(seed: int = 0, folder: Path = ROOT / "docs" / "examples") -> list[bytes]:
    """Return JPEGs of 500 x 375, about 40 kB each, cut from the examples at random places."""
    source = random.Random(seed)
    photographs = []
    for name in EXAMPLES:
        with Image.open(folder / name) as opened:
            image = opened.convert("RGB")
        for _ in range(VARIANTS):
            width = source.uniform(0.8, 1) * min(image.width, image.height * SIZE[0] / SIZE[1])
            height = width * SIZE[1] / SIZE[0]
            left = source.uniform(0, image.width - width)
            top = source.uniform(0, image.height - height)
            box = (left, top, left + width, top + height)
            cut = image.resize(SIZE, Image.Resampling.BICUBIC, box=box)
            photographs.append(encode(cut, "JPEG", quality=90))
    return photographs


def make_request(call: str, body: bytes = b"", *headers: str, method: str = "POST") -> bytes:
    """Return a whole HTTP/1.1 request."""
    lines = [f"{method} {call} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def read_type(content: bytes) -> str:
    """Return the media type of a picture's first bytes."""
    return next((kind for start, kind in MAGIC.items() if content.startswith(start)), "image/jpeg")


def make_form(call: str, contents: list[bytes], field: str = "image", *headers: str) -> bytes:
    """Return a multipart request with a file for each of `contents`."""
    parts = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        f'name="{field}"; filename="picture"\r\nContent-Type: {read_type(content)}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for content in contents
    )
    body = parts + f"--{BOUNDARY}--\r\n".encode()
    return make_request(
        call, body, f"Content-Type: multipart/form-data; boundary={BOUNDARY}", *headers
    )
