"""A map is drawn where the model looked, in the colours of its view."""

import io
import json

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from service.imaging import heatmap
from service.imaging.decoding import Picture
from service.imaging.geometry import Box
from service.imaging.heatmap import Colormap, View, encode_picture, place_on_picture, render_view
from service.imaging.saliency import Map

CAM = np.array([[1, 0], [0, -1]], np.float32)


def make_picture(size: tuple[int, int] = (64, 64), crop: Box | None = None) -> Picture:
    shown = Image.new("RGB", size, (10, 100, 200))
    pixels = np.zeros((32, 32, 3), np.uint8)
    return Picture(pixels, size, crop or Box(0, 0, *size), shown)


def draw(picture: Picture, cam: Map, view: View, colormap: Colormap, alpha: float) -> Image.Image:
    assert picture.shown
    onto = picture.shown.copy()
    render_view(picture, cam, onto, view, colormap, alpha)
    return onto


@pytest.mark.parametrize("colormap", Colormap)
def test_the_colours_equal_those_of_matplotlib(colormap: Colormap) -> None:
    ramp = np.linspace(0, 1, 32, dtype=np.float32).reshape(1, 32)
    drawn = draw(make_picture((32, 32)), ramp, View.HEATMAP, colormap, 1)
    levels = np.rint(np.asarray(place_on_picture(ramp, Box(0, 0, 32, 32), (32, 32))) * 255).astype(
        int
    )
    table = (mpl.colormaps[colormap.value](np.arange(256))[:, :3] * 255).round()
    difference = np.abs(table[levels] - np.asarray(drawn))
    assert difference.max() <= 12  # one level off, where the colours change fastest


def test_the_overlay_leaves_parts_without_heat_unchanged() -> None:
    picture = make_picture()
    drawn = np.asarray(draw(picture, CAM, View.OVERLAY, Colormap.VIRIDIS, 0.6))
    assert tuple(drawn[63, 63]) == (10, 100, 200)
    yellow = mpl.colormaps["viridis"](255)[:3]
    hottest = [0.4 * c + 0.6 * 255 * y for c, y in zip((10, 100, 200), yellow, strict=True)]
    assert hottest == pytest.approx(drawn[0, 0].tolist(), abs=2)


def test_the_signed_view_has_two_colours_and_leaves_zero_unchanged() -> None:
    drawn = np.asarray(draw(make_picture(), CAM, View.SIGNED, Colormap.VIRIDIS, 1)).astype(int)
    assert drawn[0, 0, 0] > drawn[0, 0, 2]  # orange
    assert drawn[63, 63, 2] > drawn[63, 63, 0]  # blue
    assert tuple(drawn[0, 63]) == (10, 100, 200)


def test_nothing_is_drawn_outside_the_crop() -> None:
    heat = place_on_picture(np.ones((8, 8), np.float32), Box(10.4, 5, 30.6, 25), (40, 30))
    inside = np.zeros((30, 40), bool)
    inside[5:25, 10:31] = True  # pixel 10 has its centre at 10.5, pixel 30 at 30.5
    assert (inside == (heat > 0)).all()


def test_an_empty_map_leaves_the_picture_unchanged() -> None:
    picture = make_picture()
    drawn = draw(picture, -np.eye(2, dtype=np.float32), View.OVERLAY, Colormap.TURBO, 1)
    assert np.asarray(picture.shown).tolist() == np.asarray(drawn).tolist()


def test_a_png_holds_its_origin() -> None:
    content = encode_picture(Image.new("RGB", (2, 2)), "image/png", {"model": "кошка"})
    with Image.open(io.BytesIO(content)) as image:
        assert json.loads(image.text["sightglass"]) == {"model": "кошка"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("view", View)
def test_a_picture_drawn_in_bands_is_the_same(view: View, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = make_picture((61, 97), Box(3.3, 10.2, 58.1, 80.9))
    cam = np.linspace(-1, 2, 35, dtype=np.float32).reshape(7, 5)
    whole = np.asarray(draw(picture, cam, view, Colormap.TURBO, 0.6), int)
    monkeypatch.setattr(heatmap, "BAND_PIXELS", 5 * 61)
    in_bands = np.asarray(draw(picture, cam, view, Colormap.TURBO, 0.6), int)
    steepest = 12 if view is View.HEATMAP else 8  # of a colour, from one level to the next
    assert np.abs(whole - in_bands).max() <= steepest
    assert (whole == in_bands).mean() > 0.99
