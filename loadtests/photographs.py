"""Photographs of two sizes that differ in every request, so that no cache can help."""

import io
import random
from functools import cache
from pathlib import Path

from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples"
NAMES = ("dog_and_cat.jpg", "parrot.jpg", "dragonfly.jpg")
SIZES = ((500, 375), (500, 375), (500, 375), (2000, 1500))  # typical for the web, and for a phone
VARIANTS = 4  # per name and size; encoding a new one would cost more than the request


def take_photograph(source: random.Random) -> bytes:
    """A JPEG with different last bytes each time."""
    name, size = source.choice(NAMES), source.choice(SIZES)
    return _enlarge(name, size, source.randrange(VARIANTS)) + source.randbytes(8)


@cache
def _enlarge(name: str, size: tuple[int, int], variant: int) -> bytes:
    """An example at another size; each variant has its own crop."""
    with Image.open(EXAMPLES / name) as example:
        edge = 4 * variant
        box = (edge, edge, example.width - edge, example.height - edge)
        image = example.convert("RGB").resize(size, Image.Resampling.BICUBIC, box=box)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
