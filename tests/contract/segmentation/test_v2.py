"""The Open Inference Protocol of a model that segments, with Triton's own client and without it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray

from tests.contract.segmentation.requests import expect, select
from tests.contract.v2.inputs import make_input, make_target, request_output
from tests.server import Server
from tests.service.mask_model import BLUE, RED, expect_cam, paint
from tests.service.quadrants_model import encode

PICTURE = paint((RED, (4, 4, 20, 12)), (BLUE, (18, 10, 30, 23)), size=(32, 24))
EXPECTED = expect(PICTURE)
INFER = "/v2/models/cells/infer"


@pytest.fixture(scope="module")
def client(segmenting: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(segmenting.url.removeprefix("http://")) as client:
        yield client


def make_pixels(count: int = 1) -> triton.InferInput:
    return make_input("image", np.stack([np.asarray(PICTURE)] * count), "UINT8")


def make_region(*regions: list[int]) -> triton.InferInput:
    return make_input("region", np.array([regions], np.int64), "INT64")


def make_json(*inputs: dict[str, Any], **parts: Any) -> dict[str, Any]:
    pixels = {"name": "image", "datatype": "UINT8", "shape": [1, 24, 32, 3]}
    image = pixels | {"data": np.asarray(PICTURE).ravel().tolist()}
    return {"inputs": [image, *inputs]} | parts


def tensor(name: str, shape: list[int], data: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": "INT64", "shape": shape, "data": data}


def read(result: triton.InferResult, name: str) -> NDArray[Any]:
    found: NDArray[Any] = result.as_numpy(name)
    return found


def test_the_metadata_lists_the_tensors_of_the_contract(
    client: triton.InferenceServerClient,
) -> None:
    metadata = client.get_model_metadata("cells")
    assert metadata["inputs"] == [
        {"name": "image", "datatype": "UINT8", "shape": [-1, 24, 32, 3]},
        {"name": "target", "datatype": "INT64", "shape": [-1, -1]},
        {"name": "region", "datatype": "INT64", "shape": [-1, -1, 5]},
    ]
    assert metadata["outputs"] == [
        {"name": "mask", "datatype": "UINT8", "shape": [-1, 24, 32]},
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3, 24, 32]},
        {"name": "cam", "datatype": "FP32", "shape": [-1, -1, 6, 8]},
    ]
    optional = {
        each["name"]: each["optional"] for each in client.get_model_config("cells")["input"]
    }
    assert optional == {"image": False, "target": True, "region": True}


def test_without_targets_there_is_a_mask_and_no_map_and_probabilities_only_where_named(
    client: triton.InferenceServerClient,
) -> None:
    result = client.infer("cells", [make_pixels(3)])
    assert [output["name"] for output in result.get_response()["outputs"]] == ["mask", "cam"]
    assert read(result, "cam").shape == (3, 0, 6, 8)
    assert read(result, "mask").dtype == np.uint8
    assert (read(result, "mask") == EXPECTED.mask).all()
    named = client.infer("cells", [make_pixels()], outputs=[request_output("probabilities")])
    found = read(named, "probabilities")[0]
    np.testing.assert_allclose(found, EXPECTED.probabilities, atol=1e-5)


def test_a_region_may_be_left_out_or_given(client: triton.InferenceServerClient) -> None:
    target = make_target([[-1, RED]])
    whole = read(client.infer("cells", [make_pixels(), target]), "cam")[0]
    for cam, index in zip(whole, (BLUE, RED), strict=True):
        expected = expect_cam(EXPECTED, EXPECTED.mask == index, index)
        np.testing.assert_allclose(cam, expected, atol=1e-4)
    box = (2, 6, 22, 14)
    region = make_region([-2, *box], [BLUE, -9, -9, 999, 999])
    found = read(client.infer("cells", [make_pixels(), target, region]), "cam")[0]
    np.testing.assert_allclose(found[0], expect_cam(EXPECTED, select(box), RED), atol=1e-4)
    expected = expect_cam(EXPECTED, EXPECTED.mask == BLUE, RED)
    np.testing.assert_allclose(found[1], expected, atol=1e-4)


def test_encoded_pictures_and_json_give_the_same(
    segmenting: Server, client: triton.InferenceServerClient
) -> None:
    large = PICTURE.resize((320, 240), 0)
    files = np.array([encode(large)], dtype=np.object_)
    result = client.infer("cells", [make_input("image", files, "BYTES")])
    assert (read(result, "mask")[0] == expect(large).mask).all()
    call = make_json(tensor("target", [1, 1], [RED]), outputs=[{"name": "mask"}, {"name": "cam"}])
    mask, cam = segmenting.client.post(INFER, json=call).json()["outputs"]
    assert (mask["datatype"], mask["shape"]) == ("UINT8", [1, 24, 32])
    assert mask["data"] == EXPECTED.mask.ravel().tolist()
    expected = expect_cam(EXPECTED, EXPECTED.mask == RED, RED)
    np.testing.assert_allclose(cam["data"], expected.ravel(), atol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "outputs", "status", "message"),
    [
        ([tensor("region", [1, 1, 5], [-1, 0, 0, 9, 9])], [], 400, "needs the input 'target'"),
        (
            [tensor("target", [1, 1], [1]), tensor("region", [1, 5], [-1, 0, 0, 9, 9])],
            [],
            400,
            "The input 'region' must be INT64 of shape [1, 1, 5], as 'target' has",
        ),
        (
            [tensor("target", [1, 1], [1]), tensor("region", [1, 1, 5], [3, 0, 0, 9, 9])],
            [],
            422,
            "has no label with index 3",
        ),
        ([tensor("target", [1, 1], [7])], [], 422, "has no label with index 7"),
        ([], [{"name": "logits"}], 400, "no output 'logits': use mask, probabilities, cam"),
        (
            [],
            [{"name": "probabilities", "parameters": {"classification": 2}}],
            400,
            "leave 'classification' out, because 'cells' segments",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    segmenting: Server, inputs: list[Any], outputs: list[Any], status: int, message: str
) -> None:
    response = segmenting.client.post(INFER, json=make_json(*inputs, outputs=outputs))
    assert (response.status_code, message in response.json()["error"]) == (status, True)


def test_regions_are_for_models_that_segment(segmenting: Server) -> None:
    call = make_json(tensor("target", [1, 1], [1]), tensor("region", [1, 1, 5], [0] * 5))
    response = segmenting.client.post("/v2/models/quadrants/infer", json=call)
    assert response.status_code == 400
    assert response.json()["error"] == "There is no input 'region': use image, target."


def test_the_bytes_of_all_answers_are_reserved_first() -> None:
    """64 images of 16 MB each would not fit into the memory that there is."""
    from service.api.v2.answers import count_answer_bytes
    from service.api.v2.schemas import OutputParameters, WantedOutput
    from service.errors import PayloadTooLarge
    from service.inference.admission import Admission
    from service.settings import read_settings

    model: Any = type("Model", (), {"segments": True, "labels": ["a"] * 16})()
    model.artifact = type("Artifact", (), {"map_shape": (6, 8)})()
    size = type("Size", (), {"width": 512, "height": 512})()
    model.artifact.card = type("Card", (), {"input": size})()
    binary = OutputParameters(binary_data=True)
    wanted = [WantedOutput(name="probabilities", parameters=binary)]
    admission = Admission(read_settings())
    with admission.admit(1, 10) as permit:
        permit.add_answer(count_answer_bytes(wanted, [()], model, False))
        assert admission.memory.bytes >= 512 * 512 * 16 * 4
        with pytest.raises(PayloadTooLarge):
            permit.add_answer(count_answer_bytes(wanted, [()] * 64, model, False))
    assert admission.memory.bytes == 0
