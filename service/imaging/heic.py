"""Opens HEIC files with pillow-heif, which the extra `heif` installs.

It imports pillow-heif, so it can be imported only where that is installed. The service and the
training have the same copy of it, because neither imports the other.
"""

import io
from typing import Any

import pillow_heif

# As many pictures are decoded at a time as there are cores for them. Each thread costs memory.
pillow_heif.options.DECODE_THREADS = 1
pillow_heif.options.THUMBNAILS = False
pillow_heif.options.DEPTH_IMAGES = False
pillow_heif.options.AUX_IMAGES = False


class HeicFile(pillow_heif.HeifImageFile):
    """A HEIC whose pixels have the size that its header says."""

    def load(self) -> Any:
        """Decode the pixels.

        Raises:
            ValueError: there are more or fewer than the header says.
        """
        announced = self.size
        pixels = super().load()  # type: ignore[no-untyped-call]
        if self.size != announced:
            raise ValueError("its pixels are of another size than its header says")
        return pixels


def open_heic(content: bytes) -> HeicFile:
    """Read the header of a HEIC.

    Raises:
        SyntaxError: it is broken.
    """
    return HeicFile(io.BytesIO(content))  # type: ignore[no-untyped-call]
