"""Makes the bytes of an encoded picture of what a program has at hand. Knows no HTTP."""

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image | NDArray[np.uint8]"


PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")


def encode_picture(picture: Picture) -> bytes:
    """Return an encoded picture: a file as it is, a Pillow picture or an array as PNG.

    An array is uint8 with the shape (height, width), or with 1, 3 or 4 channels after that.

    Raises:
        OSError: the file can't be read.
        TypeError: it is nothing of these.
        ValueError: the array has another shape.
    """
    if isinstance(picture, bytes | bytearray | memoryview):
        return bytes(picture)
    if isinstance(picture, str | os.PathLike):
        return Path(picture).read_bytes()
    if hasattr(picture, "save") and hasattr(picture, "mode"):
        return encode_png(picture)
    if hasattr(picture, "__array__"):
        return encode_png(make_image(picture))
    raise TypeError(
        "A picture is a path, bytes, a Pillow picture or a uint8 array, got "
        f"{type(picture).__name__}."
    )


def make_image(array: Any) -> "Image":
    """Return a Pillow picture of an array."""
    import numpy as np
    from PIL import Image

    pixels = np.asarray(array)
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"A picture's array must be uint8 with values 0 to 255, got {pixels.dtype}."
        )
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]  # (H, W)
    if (
        not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4)))
        or not pixels.size
    ):
        raise ValueError(
            "A picture's array must have the shape (height, width), or with 1, 3 or 4 channels "
            f"after that, got {pixels.shape}."
        )
    return Image.fromarray(pixels)


def encode_png(image: Any) -> bytes:
    """Return a Pillow picture as PNG, or as TIFF if PNG can't hold its mode."""
    kind = "PNG" if image.mode in PNG_MODES else "TIFF"
    file = io.BytesIO()
    image.save(file, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    return file.getvalue()
