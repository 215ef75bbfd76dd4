"""Decodes picture files as the service does, and says of a file that cannot be decoded why.

This module knows nothing of a network's input.
"""

import os
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from training.errors import UserError
from training.imaging.color_modes import convert_mode
from training.imaging.file_kinds import UnsupportedKind, open_file

MAX_PIXELS_SETTING = "SIGHTGLASS_MAX_IMAGE_PIXELS"  # the service has the same setting and default
DEFAULT_MAX_PIXELS = 50_000_000


def decode_picture(source: Path | bytes, mode: str) -> Image.Image:
    """Return the picture in mode "RGB" or "L", with the EXIF orientation applied.

    Raises:
        UserError: the picture cannot be decoded. The sentence names the file.
    """
    name = "The given picture" if isinstance(source, bytes) else str(source)
    max_pixels = read_max_pixels()
    # Pillow fills the canvas of a GIF before its size can be checked. This limit stops that.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        with open_file(content) as image:
            if image.width * image.height > max_pixels:
                size = f"{image.width} x {image.height}"
                raise UserError(_describe_too_large(name, size, max_pixels))
            image.load()
            return convert_mode(image, mode)
    except UserError:
        raise
    except Exception as error:  # decoders raise exceptions of any class for broken files
        raise UserError(_describe_fault(name, error, max_pixels)) from error


def read_max_pixels() -> int:
    """Return how many pixels a picture may have.

    Raises:
        UserError: the setting is not a positive integer.
    """
    value = os.environ.get(MAX_PIXELS_SETTING, str(DEFAULT_MAX_PIXELS))
    if not (value.isdecimal() and int(value)):
        raise UserError(f'{MAX_PIXELS_SETTING} must be a positive integer, got "{value}".')
    return int(value)


def _describe_fault(name: str, error: Exception, max_pixels: int) -> str:
    match error:
        case Image.DecompressionBombError():
            return _describe_too_large(name, f"more than {2 * max_pixels}", max_pixels)
        case UnsupportedKind():
            return f"{name} is {error}"
        case UnidentifiedImageError():
            return (
                f"{name} is not a picture that can be decoded, or its header is broken. "
                "Remove it, or save it again as JPEG or PNG."
            )
        case OSError() if error.filename:  # the file, and not its content
            return f"{name} cannot be read: {error.strerror}. Check the path and its permissions."
    reason = str(error).strip().rstrip(".") or type(error).__name__
    return f"{name} is truncated or corrupt ({reason}). Replace it with the complete file."


def _describe_too_large(name: str, size: str, max_pixels: int) -> str:
    return (
        f"{name} has {size} pixels, but at most {max_pixels} in total are accepted. "
        f"Make it smaller, or set {MAX_PIXELS_SETTING}, also for the service."
    )
