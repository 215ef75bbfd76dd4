"""What is sent: photographs of 500 x 375, and how a request that carries one looks on the wire.

Knows nothing of servers; the pictures come from docs/examples, so no data set is needed.
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
VARIANTS = 8  # of each example, so that no two requests in a row carry the same bytes


def make_photographs(seed: int = 0, folder: Path = ROOT / "docs" / "examples") -> list[bytes]:
    """JPEGs of 500 x 375, about 40 kB each, cut from the examples at places of their own."""
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
    """A whole HTTP/1.1 request."""
    lines = [f"{method} {call} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def guess(content: bytes) -> str:
    """The media type that a picture's first bytes announce."""
    return next((kind for start, kind in MAGIC.items() if content.startswith(start)), "image/jpeg")


def make_form(call: str, contents: list[bytes], field: str = "image", *headers: str) -> bytes:
    """A multipart request with a file for each of `contents`."""
    parts = b"".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        f'name="{field}"; filename="picture"\r\nContent-Type: {guess(content)}\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for content in contents
    )
    body = parts + f"--{BOUNDARY}--\r\n".encode()
    return make_request(
        call, body, f"Content-Type: multipart/form-data; boundary={BOUNDARY}", *headers
    )
