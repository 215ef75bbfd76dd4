"""The colours of all maps can be told apart with the common kinds of colour blindness."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from service.imaging.heatmap import AGAINST, COLORMAPS_FILE, FOR, Colormap

# How a full dichromat sees linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHTS = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no red": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no green": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no blue": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ.sum(axis=1)
CLEAR = 10.0  # a difference in CIELAB; one of 2.3 is just noticed


def see(colours: NDArray[np.float64], sight: str) -> NDArray[np.float64]:
    """The CIELAB values (N, 3) of sRGB colours (N, 3) in 0..255 as somebody sees them."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    xyz = (linear @ np.array(SIGHTS[sight]).T).clip(0, 1) @ TO_XYZ.T / WHITE
    bent = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = bent.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("row", range(3), ids=list(Colormap))
def test_cool_warm_and_hot_differ_clearly_in_every_map(row: int, sight: str) -> None:
    with Image.open(COLORMAPS_FILE) as image:
        colours = np.asarray(image.convert("RGB"), np.float64)[row, ::51]  # six levels
    seen = see(colours, sight)
    differences = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert differences[~np.eye(len(seen), dtype=bool)].min() > CLEAR


@pytest.mark.parametrize("sight", SIGHTS)
def test_for_and_against_differ_clearly_from_each_other_and_from_gray(sight: str) -> None:
    ground = (128, 128, 128)  # the page shows the picture without colours under this view
    seen = see(np.array([FOR, AGAINST, ground], np.float64), sight)
    differences = np.linalg.norm(seen[:, None] - seen[None], axis=2)
    assert differences[~np.eye(3, dtype=bool)].min() > 2 * CLEAR
