"""The memory reserved for a picture is what decoding it takes, measured in its own process."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.imaging.decoding import open_image
from service.imaging.memory import estimate_decode_bytes, may_hide_memory
from tests.heic import HEIC
from tests.server import ROOT
from tests.service.imaging.test_geometry import make_input
from tests.service.quadrants_model import encode
from tests.tiff import RGB, write_tiff

SIDE = 2500
SPARE_BYTES = 8 << 20  # the bands being converted and the decoder's own memory
MEASURE = """
import sys
from pathlib import Path
from service.imaging.memory import estimate_decode_bytes
from service.imaging.decoding import decode_image, open_image
from tests.service.imaging.test_geometry import make_input


def read(field):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if field in line]
    return int(line.split()[1]) * 1024


small, content = (Path(path).read_bytes() for path in sys.argv[1:])
spec = make_input(256, 224, 224)
decode_image(open_image(small, 10**8), spec)
image = open_image(content, 10**8)
Path("/proc/self/clear_refs").write_text("5")  # reset the peak
before = read("VmRSS")
reserved = estimate_decode_bytes(image, spec)
decode_image(image, spec)
print(read("VmHWM") - before, reserved)
"""


def draw(mode: str) -> Image.Image:
    """A large smooth picture."""
    ramp = np.linspace(0, 255, SIDE)
    x, y = np.broadcast_to(ramp, (SIDE, SIDE)), np.broadcast_to(ramp[:, None], (SIDE, SIDE))
    if mode in ("I;16", "I", "F"):
        return Image.fromarray(x.astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    image = Image.fromarray(np.stack([x, y, x[:, ::-1]], axis=-1).astype(np.uint8))  # (H, W, 3)
    if mode in ("LA", "RGBA"):
        image.putalpha(image.getchannel(1))
    return image.convert(mode)


def draw_png(mode: str) -> bytes:
    return encode(draw(mode), "PNG", compress_level=1)


def draw_tiff(mode: str) -> bytes:
    return encode(draw(mode), "TIFF")


def draw_heic(mode: str, **options: Any) -> bytes:
    return encode(draw(mode), HEIC, enc_params={"preset": "ultrafast"}, **options)


def make_dark_color_tiff() -> bytes:
    """Numbers of 12 bits, so the file is decoded a second time."""
    numbers = np.asarray(draw("RGB")).astype(np.uint16) * 16
    return write_tiff(numbers, photometric=RGB)


def make_rotated_tiff() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encode(draw("RGB"), "TIFF", exif=exif)


PICTURES: dict[str, Callable[[], bytes]] = {
    **{f"PNG {mode}": partial(draw_png, mode) for mode in ("1", "P", "RGB", "RGBA", "I;16")},
    "PNG, transparent palette": lambda: encode(draw("P"), compress_level=1, transparency=3),
    "JPEG": lambda: encode(draw("RGB"), "JPEG"),
    "JPEG, progressive": lambda: encode(draw("RGB"), "JPEG", progressive=True),
    "JPEG, progressive, dense": lambda: encode(
        draw("RGB"), "JPEG", progressive=True, subsampling=0
    ),
    "JPEG, CMYK, progressive": lambda: encode(draw("CMYK"), "JPEG", progressive=True),
    "WebP": lambda: encode(draw("RGB"), "WEBP", method=0),
    "WebP, lossless": lambda: encode(draw("RGBA"), "WEBP", method=0, lossless=True, quality=0),
    "WebP, animated": lambda: encode(
        draw("RGB"), "WEBP", method=0, save_all=True, append_images=[draw("RGBA")]
    ),
    "AVIF": lambda: encode(draw("RGB"), "AVIF", speed=10),
    "AVIF, gray": lambda: encode(draw("L"), "AVIF", speed=10),
    "AVIF, alpha, dense": lambda: encode(draw("RGBA"), "AVIF", speed=10, subsampling="4:4:4"),
    "AVIF, film grain": lambda: encode(
        draw("RGB"), "AVIF", speed=10, advanced={"film-grain-test": "1"}
    ),
    "AVIF, animated": lambda: encode(
        draw("RGB"), "AVIF", speed=10, save_all=True, append_images=[draw("RGB").rotate(90)]
    ),
    "HEIC": partial(draw_heic, "RGB"),
    "HEIC, gray": partial(draw_heic, "L"),
    "HEIC, dense": partial(draw_heic, "RGB", chroma="444"),
    "HEIC, alpha, dense": partial(draw_heic, "RGBA", chroma="444"),
    "HEIC, tiles": partial(draw_heic, "RGB", tile_size=512),
    "HEIC, 10 bits": partial(draw_heic, "RGB", bits=10),
    "HEIC, 10 bits, dense": partial(draw_heic, "RGB", bits=10, chroma="444"),
    "HEIC, 10 bits, alpha, dense": partial(draw_heic, "RGBA", bits=10, chroma="444"),
    "BMP": lambda: encode(draw("RGB"), "BMP"),
    **{f"TIFF {mode}": partial(draw_tiff, mode) for mode in ("F", "CMYK")},
    "TIFF, one strip": lambda: encode(
        draw("RGBA"), "TIFF", compression="tiff_lzw", tiffinfo={278: SIDE}
    ),
    "TIFF, rotated": make_rotated_tiff,
    "TIFF, 12 bits in 16, RGB": make_dark_color_tiff,
}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can reset the peak")
@pytest.mark.parametrize("name", PICTURES)
def test_decoding_takes_no_more_than_is_reserved(name: str, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(encode(Image.new("RGB", (300, 300)), "PNG"))
    (tmp_path / "content").write_bytes(PICTURES[name]())
    command = [sys.executable, "-c", MEASURE, str(tmp_path / "small"), str(tmp_path / "content")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    taken, reserved = map(int, result.stdout.split())
    assert taken < reserved + SPARE_BYTES
    assert reserved < 2 * taken + SPARE_BYTES


@pytest.mark.parametrize(
    ("mode", "options", "is_lossless"),
    [("RGB", {}, False), ("RGBA", {}, True), ("RGB", {"lossless": True}, True)],
    ids=["lossy", "lossy with alpha", "lossless"],
)
def test_a_webp_with_lossless_parts_may_hide_memory_if_it_is_large(
    mode: str, options: dict[str, bool], is_lossless: bool
) -> None:
    noise = Image.effect_noise((400, 400), 100)
    large = encode(Image.merge(mode, [noise] * len(mode)), "WEBP", **options)
    assert may_hide_memory(open_image(large, 10**6)) == is_lossless
    small = encode(Image.merge(mode, [noise.resize((64, 64))] * len(mode)), "WEBP", **options)
    assert not may_hide_memory(open_image(small, 10**6))


def test_the_weights_with_which_a_long_side_is_resized_are_reserved() -> None:
    side = 5_000_000
    image = open_image(encode(Image.new("L", (1, side))), side)
    bytes_of_lanczos = 2 * 3 * 8  # a weight is of 8 bytes; it reaches over 3 pixels on both sides
    assert estimate_decode_bytes(image, make_input(None, 224, 224)) > (1 + bytes_of_lanczos) * side
