"""What decoding a picture takes in memory, told from its header alone.

Knows what Pillow and the libraries below it hold at the peak, by format and mode; decodes nothing
and reserves nothing.
"""

import io
from collections.abc import Callable
from math import ceil

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from service.artifact.card import InputSpec
from service.imaging.decoding import find_draft_scale
from service.imaging.geometry import Size

BYTES_PER_PIXEL = {
    "1": 1,
    "L": 1,
    "P": 1,
    "I;16": 2,
    "I;16B": 2,
    "I;16L": 2,
    "I;16N": 2,
}  # bytes a pixel
MAX_BYTES_PER_PIXEL = 4  # of all other modes
WEBP_EXTRA_BYTES = 12  # two canvases of libwebp, and the bytes that it hands over
BMP_EXTRA_BYTES = 2  # a run-length coded one is unpacked, and copied
COEFFICIENT_BYTES = 2  # of JPEG, for each sample
SOS_TAIL = 3  # bytes of a JPEG's start of scan after the components
JPEG_SCALES = (8, 4, 2)  # of the smaller sizes that it can be decoded at
BITS, SAMPLES, TILE_WIDTH, TILE_LENGTH = 258, 277, 322, 323  # tags of TIFF


def estimate_decode_bytes(
    image: Image.Image, spec: InputSpec, choose_shown_size: Callable[[Size], Size] | None = None
) -> int:
    """Bytes that `decode_image` holds at its peak, given what `open_image` opened."""
    smaller = find_draft_scale(image, spec, choose_shown_size)
    reduction = next((scale for scale in JPEG_SCALES if scale <= smaller), 1)
    width, height = (ceil(side / reduction) for side in image.size)
    stored = width * height * BYTES_PER_PIXEL.get(image.mode, MAX_BYTES_PER_PIXEL)
    shown = choose_shown_size(image.size) if choose_shown_size else (0, 0)
    # Where x grows, or may when turned, all is flattened first; else only what is narrow by then.
    flattened = MAX_BYTES_PER_PIXEL * width * height if max(spec.width, *shown) > width else 0
    return (
        stored
        + MAX_BYTES_PER_PIXEL * shown[0] * shown[1]
        + max(_estimate_extra_bytes(image), flattened)
    )


def _estimate_extra_bytes(image: Image.Image) -> int:
    """Besides the pixels, while they come."""
    pixels = image.width * image.height
    if image.format == "WEBP":
        return WEBP_EXTRA_BYTES * pixels
    if image.format == "BMP":
        return BMP_EXTRA_BYTES * pixels
    if isinstance(image, JpegImageFile):
        return 0 if _is_sequential(image) else COEFFICIENT_BYTES * _count_samples(image)
    return _count_tiff(image) if isinstance(image, TiffImageFile) else 0


def _is_sequential(image: JpegImageFile) -> bool:
    """Whether a JPEG has one scan of all components; else all of it is held until the last one."""
    if "progressive" in image.info:
        return False
    assert isinstance(image.fp, io.BytesIO)
    at = image.fp.tell() - SOS_TAIL - 2 * image.layers - 1  # Pillow has read the start of a scan
    return at > 0 and bool(image.fp.getbuffer()[at] == image.layers)


def _count_samples(image: JpegImageFile) -> int:
    """Of all components of a JPEG, each as dense as its sampling factors say: 0 in a broken one."""
    factors = [(across, down) for _, across, down, _ in image.layer]
    widest = max(1, *(across for across, _ in factors))
    highest = max(1, *(down for _, down in factors))
    units = ceil(image.width / (8 * widest)) * ceil(image.height / (8 * highest))
    return int(64 * units * sum(across * down for across, down in factors))


def _count_tiff(image: TiffImageFile) -> int:
    """One strip, which may be all, or one tile; or the picture turned, as Pillow does by itself."""
    tags, pixels = image.tag_v2, image.width * image.height
    bits = max(tags.get(BITS, (1,))) * tags.get(SAMPLES, len(image.getbands()))
    tile = tags.get(TILE_WIDTH, 0) * tags.get(TILE_LENGTH, 0)
    unpacked = int(bits * max(pixels, tile) // 8)
    return max(unpacked, pixels * BYTES_PER_PIXEL.get(image.mode, MAX_BYTES_PER_PIXEL))
