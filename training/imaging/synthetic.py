"""Generated pictures for checks without photographs: coloured shapes, soft and sharp."""

import numpy as np
from PIL import Image, ImageDraw

from training.imaging.preprocessing import Pixels, to_pil_image


def generate_images(count: int, height: int, width: int, channels: int, seed: int = 0) -> Pixels:
    """Generate `count` different pictures: (N, H, W, C) uint8."""
    rng = np.random.default_rng(seed)
    return np.stack([generate_image(rng, height, width, channels) for _ in range(count)])


def generate_image(rng: np.random.Generator, height: int, width: int, channels: int) -> Pixels:
    """A blurred background with three to eight sharp shapes: (H, W, C) uint8."""
    ground = rng.integers(0, 256, (4, 4, channels), np.uint8)
    image = to_pil_image(ground).resize((width, height), Image.Resampling.BILINEAR)
    pen = ImageDraw.Draw(image)
    for _ in range(rng.integers(3, 9)):
        left, right = np.sort(rng.integers(0, width, 2))
        top, bottom = np.sort(rng.integers(0, height, 2))
        color = tuple(int(c) for c in rng.integers(0, 256, channels))
        shape = pen.ellipse if rng.random() < 0.5 else pen.rectangle
        shape((int(left), int(top), int(right), int(bottom)), fill=color)
    return np.asarray(image, np.uint8).reshape(height, width, channels)
