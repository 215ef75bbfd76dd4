"""Writes HEIC files. The encoder runs in a process of its own, and leaves its memory there.

Tests fork processes with limits of memory, which would count what an encoder has left.
"""

import io
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
from PIL import Image

HEIC = "HEIF"  # what Pillow calls the format


def encode_heic(image: Image.Image, **options: Any) -> bytes:
    """Return the image as a file, with `bits=10` in 10 bits.

    Raises:
        ValueError: the encoder does not take it.
    """
    if isinstance(options.get("exif"), Image.Exif):
        options["exif"] = options["exif"].tobytes()
    command, given = [sys.executable, __file__], pickle.dumps((image, options))
    result = subprocess.run(command, input=given, capture_output=True, check=False)
    if result.returncode:
        raise ValueError(result.stderr.decode())
    return result.stdout


def write_heic() -> None:
    """In the process: write what standard input has to standard output."""
    import pillow_heif

    image, options = pickle.load(sys.stdin.buffer)
    file = io.BytesIO()
    if options.pop("bits", 8) == 8:
        pillow_heif.register_heif_opener()
        image.save(file, HEIC, **options)
    else:  # Pillow has no such colors
        numbers = np.asarray(image).astype(np.uint16) * 257
        deep = pillow_heif.from_bytes(f"{image.mode};16", image.size, numbers.tobytes())
        deep.save(file, **options)
    sys.stdout.buffer.write(file.getvalue())


if __name__ == "__main__":
    write_heic()
