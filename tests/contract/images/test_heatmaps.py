"""The heat is at the right pixels for every shape of picture and every way of storing it.

The tests compute the expected heat pixel by pixel and without the service's own geometry. The model
uses the centre of the picture, after its shorter side has been scaled to the model's side.
"""

import io
from collections import deque
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.contract.pictures import STORE, read, turn
from tests.server import Server
from tests.service.quadrants_model import encode

SIDE = 32  # of the model's input
Floats = NDArray[np.float64]
SIZES = [
    (32, 32),
    (64, 64),
    (96, 32),
    (32, 96),
    (120, 50),
    (50, 121),
    (33, 40),
    (41, 31),
    (500, 37),
]


def find_seen(size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Return the part that the model sees: left, top, and the size of one of its pixels."""
    scale = min(size) / SIDE
    longer = int(SIDE * max(size) / min(size))
    offset = round((longer - SIDE) / 2)
    step = max(size) / longer  # along the longer side
    if size[0] <= size[1]:
        return 0.0, offset * step, scale, step
    return offset * step, 0.0, step, scale


def paint_corner(size: tuple[int, int], quarter: int) -> Image.Image:
    """Return a dark image with one bright quarter of the part that the model sees."""
    left, top, x, y = find_seen(size)
    pixels = np.full((size[1], size[0], 3), 30, np.uint8)
    first_x, first_y = left + (quarter % 2) * SIDE / 2 * x, top + (quarter // 2) * SIDE / 2 * y
    columns = slice(round(first_x), round(first_x + SIDE / 2 * x))
    rows = slice(round(first_y), round(first_y + SIDE / 2 * y))
    pixels[rows, columns] = (250, 240, 230)
    return Image.fromarray(pixels)


def expect_map(cam: Floats) -> Floats:
    """Return the map in 0..1 at the model's size: ReLU, min-max, bilinear, min-max."""
    heat = np.maximum(cam, 0)
    heat = (heat - heat.min()) / (heat.max() - heat.min() + 1e-7)
    positions = (np.arange(SIDE) + 0.5) * cam.shape[0] / SIDE - 0.5
    heat = np.array([[interpolate(heat, x, y) for x in positions] for y in positions], np.float64)
    scaled: Floats = (heat - heat.min()) / (heat.max() - heat.min() + 1e-7)
    return scaled


def interpolate(heat: Floats, x: float, y: float) -> float:
    """Interpolate between the four centres around (x, y). Outside, the edge continues."""
    height, width = heat.shape
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    column, row = min(int(x), width - 2), min(int(y), height - 2)
    a, b = x - column, y - row
    above = heat[row, column] * (1 - a) + heat[row, column + 1] * a
    below = heat[row + 1, column] * (1 - a) + heat[row + 1, column + 1] * a
    return float(above * (1 - b) + below * b)


def expect_placed(heat: Floats, size: tuple[int, int]) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the map on the picture, and which of its pixels the model saw."""
    left, top, x, y = find_seen(size)
    placed, seen = np.zeros(size[::-1]), np.zeros(size[::-1], bool)
    for row in range(size[1]):
        for column in range(size[0]):
            u, v = (column + 0.5 - left) / x, (row + 0.5 - top) / y
            if 0 <= u < SIDE and 0 <= v < SIDE:
                placed[row, column] = interpolate(heat, u - 0.5, v - 0.5)
                seen[row, column] = True
    return placed, seen


def expect_box(heat: Floats, size: tuple[int, int], threshold: float = 0.5) -> list[int]:
    """Return the pixels inside the region of at least the threshold that contains the maximum."""
    start = np.unravel_index(heat.argmax(), heat.shape)
    region, todo = set(), deque([(int(start[0]), int(start[1]))])
    while todo:
        row, column = todo.popleft()
        inside = 0 <= row < SIDE and 0 <= column < SIDE
        if inside and (row, column) not in region and heat[row, column] >= threshold * heat.max():
            region.add((row, column))
            todo += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    left, top, x, y = find_seen(size)
    rows, columns = [row for row, _ in region], [column for _, column in region]
    across = cover(left + min(columns) * x, left + (max(columns) + 1) * x, size[0])
    down = cover(top + min(rows) * y, top + (max(rows) + 1) * y, size[1])
    return [across[0], down[0], across[-1] + 1, down[-1] + 1]


def cover(start: float, end: float, limit: int) -> list[int]:
    """Return the pixels whose centres are between start and end."""
    return [pixel for pixel in range(limit) if start <= pixel + 0.5 < end]


def ask(server: Server, content: bytes, **options: Any) -> dict[str, Any]:
    """Return one explanation as JSON."""
    response = server.client.post(
        "/gradcam", content=content, params=options, headers={"accept": "application/json"}
    )
    explanation: dict[str, Any] = response.json()["explanations"][0]
    return explanation


def draw(server: Server, content: bytes, **options: Any) -> NDArray[np.uint8]:
    """Return the pixels of the drawn picture."""
    response = server.client.post("/gradcam", content=content, params={"size": 0} | options)
    assert response.status_code == 200, response.text
    return read(response.content)


@pytest.mark.parametrize("quarter", range(4))
@pytest.mark.parametrize("size", SIZES)
def test_box_and_heat_are_at_the_pixels_that_the_model_used(
    server: Server, size: tuple[int, int], quarter: int
) -> None:
    content = encode(paint_corner(size, quarter))
    explanation = ask(server, content, target_index=quarter)
    cam = np.array(explanation["cam"])
    assert quarter == 2 * (cam.argmax() // 8) + cam.argmax() % 4 // 2
    heat = expect_map(cam)
    assert explanation["box"] == expect_box(heat, size)
    for threshold in (0.05, 0.95):
        other = ask(server, content, target_index=quarter, box_threshold=threshold)
        assert other["box"] == expect_box(heat, size, threshold)

    placed, seen = expect_placed(heat, size)
    drawn = draw(server, content, target_index=quarter, view="heatmap", colormap="gray")
    assert np.abs(placed * 255 - drawn[..., 0]).max() <= 1
    assert not drawn[~seen].any()
    hottest = np.argwhere(drawn[..., 0] == drawn[..., 0].max())
    left, top, right, bottom = explanation["box"]
    assert (hottest >= [top, left]).all()
    assert (hottest < [bottom, right]).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_overlay_blends_by_heat_and_keeps_pixels_that_the_model_did_not_see(
    server: Server, size: tuple[int, int]
) -> None:
    picture = paint_corner(size, 2)
    content = encode(picture)
    heat = expect_map(np.array(ask(server, content, target_index=2)["cam"]))
    placed, seen = expect_placed(heat, size)
    colours = draw(server, content, target_index=2, view="heatmap")
    for alpha in (0.6, 1.0):
        drawn = draw(server, content, target_index=2, alpha=alpha)
        opacity = alpha * placed[..., np.newaxis]
        expected = np.asarray(picture) * (1 - opacity) + colours * opacity
        assert np.abs(expected - drawn).max() <= 2
        assert np.array_equal(np.asarray(picture)[~seen], drawn[~seen])


@pytest.mark.parametrize("orientation", STORE)
@pytest.mark.parametrize("size", [(64, 64), (90, 40), (40, 90)])
def test_box_and_heat_of_a_rotated_picture_match_its_displayed_orientation(
    server: Server, size: tuple[int, int], orientation: int
) -> None:
    shown = paint_corner(size, 1)
    upright, turned = encode(shown), turn(shown, orientation)
    assert ask(server, upright)["box"] == ask(server, turned)["box"]
    np.testing.assert_allclose(ask(server, upright)["cam"], ask(server, turned)["cam"], atol=1e-4)
    for view in ("overlay", "heatmap", "signed"):
        expected = draw(server, upright, view=view).astype(int)
        assert np.abs(expected - draw(server, turned, view=view)).max() <= 1


@pytest.mark.parametrize("size", [(96, 32), (50, 121)])
def test_a_resized_picture_shows_the_heat_at_the_same_place(
    server: Server, size: tuple[int, int]
) -> None:
    content = encode(paint_corner(size, 3))
    options = {"target_index": 3, "view": "heatmap", "colormap": "gray"}
    own = draw(server, content, **options)
    larger = draw(server, content, **options, size=max(size) * 4)
    with Image.open(io.BytesIO(encode(Image.fromarray(larger)))) as image:
        back = np.asarray(image.resize(size, Image.Resampling.BOX))
    assert np.abs(own.astype(int) - back)[own > 0].mean() < 3
    assert not larger[4 * np.flatnonzero(~own.any((1, 2)))].any()


def test_the_maximum_heat_has_full_strength(server: Server) -> None:
    drawn = draw(
        server, encode(paint_corner((64, 64), 0)), target_index=0, view="heatmap", colormap="gray"
    )
    assert drawn.max() == 255
    assert drawn.min() == 0
