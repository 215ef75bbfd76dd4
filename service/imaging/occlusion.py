"""Does a map tell the truth? The picture without its hottest part, and without its coldest.

Where the model looks must hurt it more to lose than where it does not. Pure arrays: what the model
says of the blurred pixels is asked elsewhere.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from service.imaging.saliency import Map, normalize_cam, normalize_signed_cam

AREA = 0.2  # of the map, at most
BLUR = 1 / 8  # the Gaussian's sigma, of the input's side
Pixels = NDArray[np.uint8]


class Blurred(NamedTuple):
    """The model's input with a part of it blurred, twice: (H, W, C)."""

    hot: Pixels
    cold: Pixels


def blur_parts(pixels: Pixels, cam: Map) -> Blurred:
    """Blur the hottest fifth of `cam` (h, w), and as many pixels where |cam| is least.

    Pixels without any heat are never among the hottest.
    """
    height, width = pixels.shape[:2]
    heat = normalize_cam(cam, height, width)
    hot = (heat >= np.quantile(heat, 1 - AREA)) & (heat > 0)  # (H, W)
    strength = np.abs(normalize_signed_cam(cam, height, width))
    cold = np.zeros(hot.shape, bool)
    cold.flat[np.argsort(strength, axis=None, kind="stable")[: hot.sum()]] = True
    blurred = _blur(pixels, BLUR * max(height, width))
    return Blurred(*(np.where(part[..., np.newaxis], blurred, pixels) for part in (hot, cold)))


def _blur(pixels: Pixels, sigma: float) -> Pixels:
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma))).reshape(pixels.shape)
