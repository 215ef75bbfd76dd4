"""Draws a new digit for every request, so that no cache can help."""

import io
import random

from PIL import Image, ImageDraw, ImageFont

SIDE = 28


def draw_digit(digit: int, source: random.Random) -> bytes:
    """A PNG of one light digit on dark ground, slightly shifted and rotated."""
    font = ImageFont.load_default(size=source.uniform(20, 26))
    image = Image.new("L", (SIDE, SIDE))
    middle = SIDE / 2 + source.uniform(-1.5, 1.5), SIDE / 2 + source.uniform(-1.5, 1.5)
    ImageDraw.Draw(image).text(
        middle, str(digit), fill=source.randint(200, 255), font=font, anchor="mm", stroke_width=0.6
    )
    rotated = image.rotate(source.uniform(-12, 12), Image.Resampling.BILINEAR)
    file = io.BytesIO()
    rotated.save(file, "PNG")
    return file.getvalue()
