"""`/segment`: the mask as a file and over the picture, formats, sizes and refusals."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contract.pictures import read
from tests.contract.segmentation.requests import expect, post, refuse
from tests.server import Server
from tests.service import mask_model
from tests.service.mask_model import BLUE, RED, paint, read_palette_png
from tests.service.quadrants_model import encode
from tests.warm_process import start_worker

PICTURE = paint((RED, (4, 4, 20, 12)), (BLUE, (22, 14, 30, 23)), size=(32, 24))


def test_the_mask_has_the_classes_as_values_and_the_colours_of_the_card(
    segmenting: Server,
) -> None:
    response = post(segmenting, "/segment", PICTURE, view="mask")
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-model"] == "cells/1"
    assert response.headers["vary"] == "Accept"
    assert (read_palette_png(response.content) == expect(PICTURE).mask).all()
    with Image.open(io.BytesIO(response.content)) as image:
        palette = bytes(image.getpalette() or [])
        assert palette[:9] == bytes.fromhex("".join(mask_model.PALETTE).replace("#", ""))
        origin = json.loads(image.info["sightglass"])
    assert (origin["model"], origin["version"], origin["view"]) == ("cells", "1", "mask")


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, (300, 200)), ({"size": 0}, (300, 200)), ({"size": 60}, (60, 40))],
)
def test_the_mask_has_exactly_the_uploaded_size_unless_size_is_given(
    segmenting: Server, options: dict[str, Any], size: tuple[int, int]
) -> None:
    large = PICTURE.resize((300, 200), Image.Resampling.NEAREST)
    mask = read_palette_png(post(segmenting, "/segment", large, view="mask", **options).content)
    assert mask.shape == size[::-1]
    assert {0, RED, BLUE} == {*np.unique(mask).tolist()}


def test_the_overlay_blends_each_class_with_its_colour_and_leaves_the_background(
    segmenting: Server,
) -> None:
    drawn = read(post(segmenting, "/segment", PICTURE, size=0, alpha=0.25).content).astype(float)
    plain, mask = np.asarray(PICTURE).astype(float), expect(PICTURE).mask
    for label in range(3):
        there = mask == label
        colour = np.array([*bytes.fromhex(mask_model.PALETTE[label][1:])])
        expected = plain if label == 0 else 0.75 * plain + 0.25 * colour
        assert np.abs(drawn - expected)[there].max() <= 2
    default = read(post(segmenting, "/segment", PICTURE).content)
    assert default.shape[:2] == (168, 224)  # as for the maps, small pictures are enlarged


@pytest.mark.parametrize(
    ("accept", "expected"),
    [("image/webp", "image/webp"), ("image/jpeg;q=0.9,image/png;q=0.1", "image/jpeg")],
)
def test_the_overlay_has_the_format_that_accept_prefers(
    segmenting: Server, accept: str, expected: str
) -> None:
    response = post(segmenting, "/segment", PICTURE, headers={"accept": accept})
    assert response.headers["content-type"] == expected
    mixed = post(segmenting, "/segment", PICTURE, view="mask", headers={"accept": f"{accept},*/*"})
    assert mixed.headers["content-type"] == "image/png"


@pytest.mark.parametrize(
    ("accept", "view"),
    [("application/json", "overlay"), ("application/json", "mask"), ("image/jpeg", "mask")],
)
def test_other_formats_are_not_acceptable_and_numbers_are_at_predict(
    segmenting: Server, accept: str, view: str
) -> None:
    headers = {"accept": accept}
    status, message = refuse(segmenting, "/segment", PICTURE, view=view, headers=headers)
    assert status == 406
    assert "/predict" in message
    assert ("image/jpeg or" in message) == (view == "overlay" or accept == "application/json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "quadrants"}, "choose a model that segments: cells, cropped."),
        ({"view": "heatmap"}, "'view' must be 'overlay' or 'mask'"),
        ({"alpha": 2}, "'alpha' must be less than or equal to 1"),
        ({"size": 8}, "'size' must"),
        ({"top_k": 1}, "There is no parameter 'top_k' here: use image, model, view, alpha, size."),
    ],
)
def test_what_makes_no_sense_is_refused(
    segmenting: Server, options: dict[str, Any], message: str
) -> None:
    status, sentence = refuse(segmenting, "/segment", PICTURE, **options)
    assert status == 400
    assert message in sentence


@pytest.mark.parametrize(
    ("call", "side", "options"),
    [
        ("/segment", 2048, {"view": "mask"}),
        ("/segment", 256, {"view": "mask", "size": 2048}),
        ("/predict", 2048, {"mask": "true"}),
        ("/gradcam", 2048, {"mask": "true"}),
    ],
)
def test_the_bytes_of_a_mask_are_counted_before_it_is_made(
    small_room: Server, call: str, side: int, options: dict[str, Any]
) -> None:
    status, message = refuse(small_room, call, paint(size=(side, side)), **options)
    assert status == 413
    assert "this server has at most" in message
    if "size" in options:
        options = options | {"size": 256}
    assert post(small_room, call, paint(size=(256, 256)), **options).status_code == 200


@pytest.fixture(scope="module")
def small_room(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server with 18 MB for pixels. A picture of 2048 x 2048 pixels takes 17 MB of them."""
    folder: Path = tmp_path_factory.mktemp("room")
    mask_model.write_model(folder / "models" / "cells" / "1" / "model.onnx")
    settings = {"max_inflight_bytes": 24_000_000, "max_image_pixels": 4_500_000}
    with start_worker(folder / "models", folder, **settings) as running:
        running.wait_ready()
        yield running


def test_a_large_upload_gets_its_mask_in_its_own_size(segmenting: Server) -> None:
    large = PICTURE.resize((2048, 2048), Image.Resampling.NEAREST)
    answer = post(segmenting, "/segment", large, view="mask")
    mask = read_palette_png(answer.content)
    assert mask.shape == (2048, 2048)
    assert len(answer.content) < 100_000
    assert len(encode(large)) < 100_000
