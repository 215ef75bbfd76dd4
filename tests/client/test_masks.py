"""Programs get the masks and the classes of models that segment, and maps of their regions."""

import asyncio
import io
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from client import Answer, AsyncClient, BadRequest, Client, Mask, SightglassError, UnknownLabel
from tests.contract.artifacts import wait_loaded
from tests.contract.segmentation.requests import expect, select
from tests.server import Server
from tests.service import mask_model, quadrants_model
from tests.service.mask_model import BLUE, RED, expect_cam, paint
from tests.warm_process import start_worker

PICTURE = paint((RED, (4, 4, 20, 12)), (BLUE, (18, 10, 30, 23)), size=(32, 24))
EXPECTED = expect(PICTURE)
BOX = (2, 6, 22, 14)
NOWHERE = (0, 0, 3, 3)  # no pixel there is red


@pytest.fixture(scope="module")
def segmenting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`cells` segments and is the default. `quadrants` classifies."""
    folder = tmp_path_factory.mktemp("segmenting")
    models = folder / "models"
    mask_model.write_model(models / "cells" / "1" / "model.onnx")
    quadrants_model.write_model(models / "quadrants" / "1" / "model.onnx")
    with start_worker(models, folder, default_model="cells") as running:
        wait_loaded(running)
        yield running


@pytest.fixture(scope="module")
def caller(segmenting: Server) -> Iterator[Client]:
    with Client(segmenting.url) as opened:
        yield opened


def check_mask(mask: Mask | None) -> None:
    assert mask
    assert (mask.media_type, mask.model) == ("image/png", "cells/1")
    assert (mask.read_classes() == EXPECTED.mask).all()


def test_a_mask_has_the_class_of_each_pixel(caller: Client) -> None:
    check_mask(caller.segment(PICTURE, view="mask"))
    small = caller.segment(PICTURE, view="mask", size=16).read_classes()
    assert small.shape == (12, 16)
    assert small.dtype == np.uint8


def test_an_overlay_is_a_picture_whose_values_are_no_classes(caller: Client) -> None:
    drawn = caller.segment(PICTURE, "image/webp", size=64, alpha=0.5)
    with Image.open(io.BytesIO(drawn.content)) as image:
        assert (image.format, image.size, drawn.media_type) == ("WEBP", (64, 48), "image/webp")
    with pytest.raises(ValueError, match='view="mask"'):
        caller.segment(PICTURE).read_classes()


def test_a_prediction_has_the_classes_by_area_and_the_mask_if_asked_for(caller: Client) -> None:
    answer = caller.predict(PICTURE, mask=True)
    assert [found.label for found in answer.classes] == ["background", "blue", "red"]
    for found in answer.classes:
        there = EXPECTED.mask == found.index
        assert found.pixels == there.sum()
        assert found.share == pytest.approx(there.mean())
        mean = EXPECTED.probabilities[found.index][there].mean()
        assert found.probability == pytest.approx(mean, abs=1e-5)
    blue = answer.classes[1]
    rows, columns = np.nonzero(EXPECTED.mask == BLUE)
    assert blue.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    check_mask(answer.mask)
    assert caller.predict(PICTURE, top_k=1).mask is None


def test_such_an_answer_has_no_most_probable_label(caller: Client) -> None:
    answer = caller.predict(PICTURE)
    assert answer.predictions == []
    with pytest.raises(BadRequest, match="'cells' segments pictures"):
        _ = answer.top


def test_an_explanation_has_its_region(caller: Client) -> None:
    [found] = caller.explain(PICTURE, box=BOX, against="background", verify=True).explanations
    selected = select(BOX) & (EXPECTED.mask == RED)
    assert found.region
    assert (found.region.of, found.region.box) == ("red", BOX)
    assert found.region.pixels == selected.sum()
    difference = expect_cam(EXPECTED, selected, RED) - expect_cam(EXPECTED, selected, 0)
    np.testing.assert_allclose(found.cam, difference, atol=1e-4)
    assert found.verification
    assert found.verification.probability == found.target.probability
    [point] = caller.explain(PICTURE, point=(25, 20)).explanations
    assert point.region
    assert (point.target.index, point.region.of, point.region.pixels) == (BLUE, None, 1)
    [of] = caller.explain(PICTURE, of="blue", target="red").explanations
    assert of.region
    assert of.region.pixels == (EXPECTED.mask == BLUE).sum()


def test_a_region_without_pixels_has_no_probability(caller: Client) -> None:
    answer = caller.explain(PICTURE, box=NOWHERE, target="red", verify=True)
    [found] = answer.explanations
    assert (found.empty, found.box, found.target.probability) == (True, None, None)
    assert found.verification
    assert found.verification.probability is None
    heatmap = caller.draw(PICTURE, box=NOWHERE, target="red")
    assert (heatmap.predicted_label, heatmap.target_label) == ("blue", "red")
    assert heatmap.target_probability is None


def test_a_fault_is_the_exception_of_its_kind(caller: Client) -> None:
    with pytest.raises(BadRequest, match="choose a model that segments: cells"):
        caller.segment(PICTURE, model="quadrants")
    with pytest.raises(BadRequest, match="/predict"):
        caller.segment(PICTURE, "image/jpeg", view="mask")
    with pytest.raises(UnknownLabel, match="red"):
        caller.explain(PICTURE, of="rde")


def test_many_pictures_have_masks_and_regions(caller: Client) -> None:
    masks = caller.predict_many([PICTURE, b"text", PICTURE], mask=True)
    for result in (masks[0], masks[2]):
        assert isinstance(result, Answer)
        check_mask(result.mask)
    assert isinstance(masks[1], SightglassError)
    [explained] = caller.explain_many([PICTURE], point=[5, 5])
    assert isinstance(explained, Answer)
    assert explained.explanations[0].target.label == "red"


def test_the_same_from_asyncio(segmenting: Server) -> None:
    async def call() -> None:
        async with AsyncClient(segmenting.url) as caller:
            check_mask(await caller.segment(PICTURE, view="mask"))
            check_mask((await caller.predict(PICTURE, mask=True)).mask)
            [found] = (await caller.explain(PICTURE, box=BOX)).explanations
            assert found.region
            assert found.region.box == BOX

    asyncio.run(call())
