"""A file that segments is validated, tried, tested and watched like one that classifies."""

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.validation import read_artifact
from service.parameters import MAX_TARGETS
from service.repository.attention import MAPS, Attention
from service.repository.golden import check_outputs, decode_golden_pictures, run_golden_tests
from service.repository.trial import UNSERVED, list_batches, try_model_file, unpack_trial
from service.runtime.engine import MaskOutputs
from service.runtime.session import OnnxSession
from service.settings import read_settings
from tests.service.mask_model import (
    BLUE,
    RED,
    make_card,
    make_golden,
    make_graph,
    paint,
    write_model,
)
from tests.service.quadrants_model import encode, save


def write(folder: Path, **changes: Any) -> Path:
    write_model(folder / "model.onnx", **changes)
    return folder / "model.onnx"


def read_reason(path: Path) -> str:
    with pytest.raises(InvalidArtifact) as rejected:
        read_artifact(path)
    return str(rejected.value)


def open_model(folder: Path, **changes: Any) -> tuple[Artifact, OnnxSession]:
    artifact, content = read_artifact(write(folder, **changes))
    return artifact, OnnxSession(content, artifact, "cpu", 1)


def test_the_worker_gets_card_golden_pictures_and_masks_of_the_trial(tmp_path: Path) -> None:
    path = write(tmp_path)
    expected, _ = read_artifact(path)
    tried = unpack_trial(path, try_model_file(read_settings(), path))
    assert tried.artifact == replace(expected, card=expected.card.model_copy(update=UNSERVED))
    for found, picture in zip(tried.pictures, decode_golden_pictures(expected), strict=True):
        np.testing.assert_array_equal(found.pixels, picture.pixels)
        assert found.mask is not None
        assert picture.mask is not None
        np.testing.assert_array_equal(found.mask, picture.mask)
    assert list_batches(expected, 8) == [(8, 1), (8, 0), (1, 2 * MAX_TARGETS)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"palette": ["#000000"]}, "'palette' must have one colour for each of the 3 labels"),
        ({"palette": ["black", "red", "blue"]}, "palette.0"),
        ({"background": 3}, "'background' must be the index of a label, or null"),
        ({"confidence": {"threshold": 0.5}}, "'confidence' is for models that classify"),
        (
            {"gradcam": {"layer": "x", "method": "gradcam", "compiler": "backward"}},
            "'gradcam.method' can't be 'gradcam' with this task",
        ),
        ({"labels": [str(number) for number in range(256)], "palette": None}, "255 labels"),
    ],
)
def test_a_card_that_segments_must_be_valid(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    golden = make_golden(make_card())
    assert reason in read_reason(write(tmp_path, golden=golden, **changes))


def test_palette_and_background_may_be_left_out(tmp_path: Path) -> None:
    card, _ = read_artifact(write(tmp_path, palette=None, background=None))
    assert (card.card.palette, card.card.background) == (None, None)


@pytest.mark.parametrize("name", ["region", "shares", "mask"])
def test_a_golden_test_must_have_its_mask(tmp_path: Path, name: str) -> None:
    golden = make_golden(make_card())
    del golden[1][name]
    assert f"'golden.1.{name}' is missing" in read_reason(write(tmp_path, golden=golden))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("region", "has no 'region' among its inputs and outputs"),
        ("mask", "has no 'mask' among its inputs and outputs"),
    ],
)
def test_the_graph_must_have_the_tensors_of_its_task(
    tmp_path: Path, name: str, reason: str
) -> None:
    card = make_card()
    card["golden"] = make_golden(card)
    model = make_graph(card)
    for values in (model.graph.input, model.graph.output):
        for value in values:
            if value.name == name:
                value.name = "renamed"
    save(model, card, tmp_path / "model.onnx")
    assert reason in read_reason(tmp_path / "model.onnx")


def test_probabilities_of_one_image_have_at_most_16_mb(tmp_path: Path) -> None:
    card = make_card(2048, 1024)
    card["golden"] = make_golden(make_card())
    save(make_graph(card), card, tmp_path / "model.onnx")
    assert "25165824 bytes of probabilities" in read_reason(tmp_path / "model.onnx")


def spoil(golden: list[dict[str, Any]], name: str) -> str:
    """Spoil the second golden test; return what must be said."""
    second = golden[1]
    if name == "label":
        second["label"] = "red"
        return "most pixels are 'background', but 'red' at the export"
    if name == "shares":
        second["shares"][0] += 0.01
        return "the share of a class differs by 0.01; the tolerance is 0.001"
    if name == "mask":
        second["mask"] = golden[0]["mask"]
        mask = paint((1, (0, 0, 1, 1)), size=(32, 24)).convert("L")
        second["mask"] = base64.b64encode(encode(mask)).decode()
        return "of the mask's pixels differ; the tolerance is 0.001"
    if name == "size":
        mask = paint(size=(31, 24)).convert("L")
        second["mask"] = base64.b64encode(encode(mask)).decode()
        return "The mask must be a gray PNG of 32 x 24 pixels"
    second["cam"] = (np.array(second["cam"]) * 1.1).tolist()
    return "cam differs by 0.091 of its peak; the tolerance is 0.02"


@pytest.mark.parametrize("name", ["label", "shares", "mask", "size", "cam"])
def test_a_golden_test_finds_another_answer(tmp_path: Path, name: str) -> None:
    golden = make_golden(make_card())
    reason = spoil(golden, name)
    artifact, session = open_model(tmp_path, golden=golden)
    with pytest.raises(InvalidArtifact) as rejected:
        run_golden_tests(artifact, decode_golden_pictures(artifact), session.run)
    assert reason in str(rejected.value)


def test_a_mask_has_classes_of_the_card_only(tmp_path: Path) -> None:
    artifact, session = open_model(tmp_path)
    outputs = session.run(*artifact.make_batch(2, 1))
    check_outputs(outputs, artifact, 2, 1)
    assert isinstance(outputs, MaskOutputs)
    with pytest.raises(InvalidArtifact, match="gives a pixel the class 3; it has 3 labels"):
        check_outputs(outputs._replace(mask=outputs.mask + 3), artifact, 2, 1)


def test_attention_counts_the_maps_of_classes_over_their_own_pixels_of_the_whole_picture(
    tmp_path: Path,
) -> None:
    artifact, session = open_model(tmp_path)
    attention = Attention("cells", "1", artifact)
    picture = paint((RED, (4, 4, 20, 12)), (BLUE, (18, 10, 30, 23)), size=(32, 24))
    image = np.stack([np.asarray(picture)] * 2)
    whole = (0, 0, 32, 24)
    asked = [(-1, -1, *whole), (RED, RED, *whole), (RED, -1, 0, 0, 9, 9), (RED, -2, *whole)]
    target = np.array([asked] * 2)
    outputs = session.run(image, target)
    attention.add(outputs, target, [True, False])
    assert attention.total().sums[:, MAPS].tolist() == [0, 1, 1]
    classes = dict(attention.describe().classes)
    assert classes.keys() == {"red", "blue"}
    heat = np.maximum(outputs.cam[0, 1], 0)
    mean = classes["red"].observed.mean
    assert mean is not None
    np.testing.assert_allclose(mean, heat / heat.max(), atol=1e-4)
