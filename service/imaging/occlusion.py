"""Blurs the hottest and the coldest part of a picture, to test whether its map is faithful.

If the map is right, blurring the hottest part lowers the probability more than blurring the coldest
part. This module works on arrays only; it does not run the model.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from service.imaging.saliency import Map, normalize_cam, normalize_signed_cam

AREA = 0.2  # largest share of the map that is blurred
BLUR = 1 / 8  # sigma of the Gaussian, as a share of the input's longer side
Pixels = NDArray[np.uint8]


class BlurredInputs(NamedTuple):
    """The model's input with its hottest and with its coldest part blurred; (H, W, C) each."""

    hot: Pixels
    cold: Pixels


def blur_hottest_and_coldest(pixels: Pixels, cam: Map) -> BlurredInputs:
    """Blur the hottest fifth of `cam` (h, w), and as many pixels where |cam| is smallest.

    Pixels without heat are never among the hottest.
    """
    height, width = pixels.shape[:2]
    heat = normalize_cam(cam, height, width)
    hot = (heat >= np.quantile(heat, 1 - AREA)) & (heat > 0)  # (H, W)
    magnitude = np.abs(normalize_signed_cam(cam, height, width))
    cold = np.zeros(hot.shape, bool)  # (H, W)
    cold.flat[np.argsort(magnitude, axis=None, kind="stable")[: hot.sum()]] = True
    blurred = _blur(pixels, BLUR * max(height, width))
    return BlurredInputs(
        *(np.where(mask[..., np.newaxis], blurred, pixels) for mask in (hot, cold))
    )


def _blur(pixels: Pixels, sigma: float) -> Pixels:
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(sigma))).reshape(pixels.shape)
