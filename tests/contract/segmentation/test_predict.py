"""`/predict` and `/predict/batch` of a model that segments: the classes by area, and the mask."""

import base64

import numpy as np
import pytest

from tests.contract.segmentation.requests import ask, expect, post, refuse
from tests.server import Server
from tests.service.mask_model import BLUE, RED, paint, read_palette_png
from tests.service.quadrants_model import encode

BOXES = ((RED, (4, 4, 20, 12)), (BLUE, (22, 14, 30, 23)))
PICTURE = paint(*BOXES, size=(32, 24))


def test_the_classes_are_sorted_by_area_with_share_box_and_mean_probability(
    segmenting: Server,
) -> None:
    answer = ask(segmenting, "/predict", PICTURE)
    expected = expect(PICTURE)
    assert (answer["model"], answer["version"], answer["warnings"]) == ("cells", "1", [])
    assert answer["image"] == {"width": 32, "height": 24}
    assert [found["label"] for found in answer["classes"]] == ["background", "red", "blue"]
    assert "mask" not in answer
    for found in answer["classes"]:
        there = expected.mask == found["index"]
        assert found["pixels"] == there.sum()
        assert found["share"] == pytest.approx(there.mean())
        mean = expected.probabilities[found["index"]][there].mean()
        assert found["probability"] == pytest.approx(mean, abs=1e-5)
    assert [found["box"] for found in answer["classes"][1:]] == [list(box) for _, box in BOXES]


def test_top_k_limits_the_classes_and_only_those_that_are_there_are_listed(
    segmenting: Server,
) -> None:
    one = ask(segmenting, "/predict", PICTURE, top_k=1)
    assert [found["label"] for found in one["classes"]] == ["background"]
    plain = ask(segmenting, "/predict", paint(size=(9, 9)), top_k=0)
    assert [(found["label"], found["share"]) for found in plain["classes"]] == [("background", 1)]


def test_the_mask_is_a_png_of_the_uploaded_size_in_base64(segmenting: Server) -> None:
    large = PICTURE.resize((320, 240), 0)
    answer = ask(segmenting, "/predict", large, mask="true")
    mask = read_palette_png(base64.b64decode(answer["mask"]))
    assert mask.shape == (240, 320)
    for found in answer["classes"]:
        there = mask == found["index"]
        assert found["pixels"] == there.sum()
        rows, columns = there.any(1).nonzero()[0], there.any(0).nonzero()[0]
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert found["box"] == [int(side) for side in box]


def test_a_batch_answers_each_picture_and_only_the_invalid_one_fails(segmenting: Server) -> None:
    files = [("image", encode(PICTURE)), ("image", b"none"), ("image", encode(paint(size=(8, 8))))]
    for call in ("/predict/batch", "/gradcam/batch"):
        results = segmenting.client.post(call, files=files, data={"mask": "true"}).json()["results"]
        assert results[1]["error"]["code"] == "unsupported_media_type"
        alone = ask(segmenting, "/predict", PICTURE, mask="true")
        assert {name: results[0][name] for name in ("classes", "image", "mask")} == {
            name: alone[name] for name in ("classes", "image", "mask")
        }
        assert results[2]["classes"][0]["share"] == 1
        assert ("explanations" in results[0]) == ("gradcam" in call)


def test_rows_with_and_without_maps_are_all_answered_at_the_same_time(segmenting: Server) -> None:
    """They are in different batches, because a padded map would cost as much as a real one."""
    from concurrent.futures import ThreadPoolExecutor

    expected = ask(segmenting, "/predict", PICTURE)["classes"]

    def call(number: int) -> object:
        if number % 2:
            return ask(segmenting, "/gradcam", PICTURE, target_top=1 + number % 3)["classes"]
        return ask(segmenting, "/predict", PICTURE)["classes"]

    with ThreadPoolExecutor(8) as pool:
        assert all(found == expected for found in pool.map(call, range(24)))


@pytest.mark.parametrize(
    ("call", "name", "value"),
    [
        ("/predict", "mask", "true"),
        ("/gradcam", "box", "1,1,9,9"),
        ("/gradcam", "point", "1,1"),
        ("/gradcam", "of", "red"),
    ],
)
def test_a_model_that_classifies_refuses_what_only_a_mask_has(
    segmenting: Server, call: str, name: str, value: str
) -> None:
    status, message = refuse(segmenting, call, PICTURE, model="quadrants", **{name: value})
    assert status == 400
    assert f"'{name}' is for models that segment, but 'quadrants' classifies" in message
    assert message.endswith("choose a model that segments: cells, cropped.")


def test_the_answer_matches_the_openapi_document(segmenting: Server) -> None:
    import jsonschema  # type: ignore[import-untyped]

    document = segmenting.client.get("/openapi.json").json()
    for call in ("/predict", "/gradcam"):
        operation = document["paths"][call]["post"]
        content = operation["responses"]["200"]["content"]["application/json"]
        schema = content["schema"] | {"components": document["components"]}
        options = {"box": "2,2,20,20", "against": "blue", "verify": "true"}
        extra = options if call == "/gradcam" else {}
        answer = ask(segmenting, call, PICTURE, mask="true", **extra)
        jsonschema.Draft202012Validator(schema).validate(answer)
    assert set(document["paths"]["/segment"]["post"]["responses"]) >= {"200", "400", "406"}


def test_the_v1_protocol_has_the_same_results(segmenting: Server) -> None:
    instances = [{"image": {"b64": base64.b64encode(encode(PICTURE)).decode()}}]
    answer = segmenting.client.post("/v1/models/cells:explain", json={"instances": instances})
    [result] = answer.json()["explanations"]
    alone = ask(segmenting, "/gradcam", PICTURE)
    np.testing.assert_allclose(result["explanations"][0]["cam"], alone["explanations"][0]["cam"])
    assert result["classes"] == alone["classes"]


def test_a_picture_on_the_queue_is_counted_and_its_maps_too(segmenting: Server) -> None:
    from tests.contract.wire import read_metric

    before = read_metric(segmenting, "sightglass_maps_total", model="cells")
    assert post(segmenting, "/gradcam", PICTURE, target=["red", "blue"]).status_code == 200
    assert read_metric(segmenting, "sightglass_maps_total", model="cells") == before + 2
    assert read_metric(segmenting, "sightglass_queue_images") == 0
    assert read_metric(segmenting, "sightglass_inflight_bytes") == 0
