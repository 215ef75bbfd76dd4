"""Decodes picture files as the service does, and says of a file that cannot be decoded why.

This module knows nothing of a network's input.
"""

import contextlib
import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from training.errors import UserError
from training.imaging.color_modes import convert_mode
from training.imaging.deep_color import load_pixels
from training.imaging.file_kinds import UnsupportedKind, open_file

MAX_PIXELS_SETTING = "SIGHTGLASS_MAX_IMAGE_PIXELS"  # the service has the same setting and default
DEFAULT_MAX_PIXELS = 50_000_000
PIXEL_RULES = 2  # change it with the pixels of any file, so that stored pixels are not used again
# Up to twice its limit Pillow only warns; then our own check rejects the picture.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


def decode_picture(
    source: Path | bytes, mode: str, prepare: Callable[[Image.Image], None] | None = None
) -> Image.Image:
    """Return the picture in mode "RGB" or "L", with the EXIF orientation applied.

    `prepare` gets the opened picture before its pixels are decoded.

    Raises:
        UserError: the picture cannot be decoded. The sentence names the file.
    """
    name = "The given picture" if isinstance(source, bytes) else str(source)
    max_pixels = read_max_pixels()
    # Pillow fills the canvas of a GIF before its size can be checked. This limit stops that.
    Image.MAX_IMAGE_PIXELS = max_pixels
    content = b""
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        with open_file(content) as image:
            width, height = image.size
            if width * height <= max_pixels:
                if prepare:
                    prepare(image)
                load_pixels(image)
                return convert_mode(image, mode)
        size = f"{width} x {height}"
    except Image.DecompressionBombError:
        size = _describe_size(content, 2 * max_pixels)
    except Exception as error:  # decoders raise exceptions of any class for broken files
        raise UserError(_describe_fault(name, error)) from error
    raise UserError(
        f"{name} has {size} pixels, but at most {max_pixels} in total are accepted. "
        f"Make it smaller, or set {MAX_PIXELS_SETTING} here and for the service."
    )


def read_max_pixels() -> int:
    """Return how many pixels a picture may have.

    Raises:
        UserError: the setting is not a positive integer.
    """
    value = os.environ.get(MAX_PIXELS_SETTING, str(DEFAULT_MAX_PIXELS))
    if not (value.isdecimal() and int(value)):
        raise UserError(f'{MAX_PIXELS_SETTING} must be a positive integer, got "{value}".')
    return int(value)


def _describe_size(content: bytes, limit: int) -> str:
    """The size of a picture that Pillow rejected. All its readers but GIF's still tell it."""
    for read_header, accept in Image.OPEN.values():
        if accept and accept(content[:16]) is True:
            with contextlib.suppress(Exception):  # another format, or a GIF
                width, height = read_header(io.BytesIO(content), "").size
                return f"{width} x {height}"
    return f"more than {limit}"


def _describe_fault(name: str, error: Exception) -> str:
    if isinstance(error, UnsupportedKind):
        return f"{name} is {error}"
    if isinstance(error, UnidentifiedImageError):
        return (
            f"{name} is not a picture that can be decoded, or its header is broken. "
            "Remove it, or save it again as JPEG or PNG."
        )
    if isinstance(error, OSError) and error.filename:  # the file, and not its content
        return f"{name} cannot be read: {error.strerror}. Check the path and its permissions."
    reason = str(error).strip().rstrip(".") or type(error).__name__
    return f"{name} is truncated or corrupt ({reason}). Replace it with the complete file."
