"""Triton's own client works with the service: metadata, inference and errors."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from tests.contract.v2.conftest import KEY
from tests.contract.v2.inputs import (
    OUTPUTS,
    make_encoded,
    make_image,
    make_input,
    make_pixels,
    make_target,
    request_output,
)
from tests.server import Server
from tests.service.quadrants_model import encode, light

MODEL = "quadrants"


def test_the_server_metadata_has_name_and_extensions(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "sightglass"
    assert {"binary_tensor_data", "classification"} <= set(metadata["extensions"])


@pytest.mark.parametrize("version", ["", "1"])
def test_the_model_metadata_lists_inputs_and_outputs(
    client: triton.InferenceServerClient, version: str
) -> None:
    assert client.is_model_ready(MODEL, version)
    metadata = client.get_model_metadata(MODEL, version)
    assert (metadata["name"], metadata["versions"]) == (MODEL, ["1"])
    tensors = {t["name"]: (t["datatype"], t["shape"]) for t in metadata["inputs"]}
    assert tensors == {"image": ("UINT8", [-1, 32, 32, 3]), "target": ("INT64", [-1, -1])}
    tensors = {t["name"]: (t["datatype"], t["shape"]) for t in metadata["outputs"]}
    scores = ("FP32", [-1, 4])
    assert tensors == {"logits": scores, "probabilities": scores, "cam": ("FP32", [-1, -1, 4, 4])}


@pytest.mark.parametrize("version", ["", "1"])
def test_the_model_configuration_has_triton_s_shape(
    client: triton.InferenceServerClient, version: str
) -> None:
    config = client.get_model_config(MODEL, version)
    assert (config["name"], config["backend"], config["max_batch_size"]) == (
        MODEL,
        "onnxruntime",
        64,
    )
    [image, target] = config["input"]
    assert (image["data_type"], image["dims"]) == ("TYPE_UINT8", [32, 32, 3])
    assert (target["data_type"], target["dims"], target["optional"]) == ("TYPE_INT64", [-1], True)
    assert [output["dims"] for output in config["output"]] == [[4], [4], [-1, 4, 4]]


def test_the_repository_index_lists_every_version_with_its_state(strict_server: Server) -> None:
    with triton.InferenceServerClient(strict_server.url.removeprefix("http://")) as client:
        index = client.get_model_repository_index(headers={"Authorization": f"Bearer {KEY}"})
    states = {(entry["name"], entry["version"]): entry["state"] for entry in index}
    assert states == {
        ("broken", "1"): "UNAVAILABLE",
        ("fragile", "1"): "READY",
        ("quadrants", "1"): "READY",
        ("quadrants", "2"): "READY",
    }
    [reason] = [entry["reason"] for entry in index if entry["name"] == "broken"]
    assert "model.onnx" in reason


@pytest.mark.parametrize("image_binary", [True, False])
@pytest.mark.parametrize("target_binary", [True, False])
@pytest.mark.parametrize("output_binary", [True, False])
def test_json_and_binary_tensors_can_be_mixed(
    client: triton.InferenceServerClient,
    image_binary: bool,
    target_binary: bool,
    output_binary: bool,
) -> None:
    inputs = [
        make_image(0, 3, binary=image_binary),
        make_target([[-1, 1], [3, 0]], binary=target_binary),
    ]
    outputs = [request_output(name, binary=output_binary) for name in OUTPUTS]
    answer = client.infer(MODEL, inputs, outputs=outputs, request_id="my-id")
    response = answer.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == (
        "my-id",
        MODEL,
        "1",
    )
    assert all(("data" in output) != output_binary for output in response["outputs"])
    logits = answer.as_numpy("logits")
    assert (logits.dtype, logits.shape) == (np.float32, (2, 4))
    np.testing.assert_allclose(logits, [[10, -1, -1, -1], [-1, -1, -1, 10]], rtol=1e-5)
    np.testing.assert_allclose(answer.as_numpy("probabilities").sum(axis=1), 1, rtol=1e-5)
    cam = answer.as_numpy("cam")
    assert cam.shape == (2, 2, 4, 4)
    np.testing.assert_allclose(cam[0, 0, :2, :2], 1, rtol=1e-5)  # the top label is top left
    np.testing.assert_allclose(cam[1, 1, 2:, 2:], -0.1, rtol=1e-5)  # negative evidence for top left


@pytest.mark.parametrize("explained", [False, True])
def test_without_targets_the_map_is_empty(
    client: triton.InferenceServerClient, explained: bool
) -> None:
    inputs = [make_image(1)]
    if explained:
        inputs.append(make_input("target", np.empty((1, 0), np.int64), "INT64", binary=False))
    answer = client.infer(MODEL, inputs)
    assert answer.as_numpy("cam").shape == (1, 0, 4, 4)
    assert answer.as_numpy("logits").argmax() == 1


def test_only_the_requested_outputs_are_returned_in_the_requested_order(
    client: triton.InferenceServerClient,
) -> None:
    outputs = [request_output("cam"), request_output("logits", binary=False)]
    answer = client.infer(MODEL, [make_image(2), make_target([[2]])], outputs=outputs)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["cam", "logits"]
    assert answer.as_numpy("probabilities") is None
    assert answer.as_numpy("cam").shape == (1, 1, 4, 4)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("count", "returned"), [(1, 1), (3, 3), (99, 4)])
def test_classification_returns_the_highest_values_with_labels(
    client: triton.InferenceServerClient, binary: bool, count: int, returned: int
) -> None:
    outputs = [
        request_output("probabilities", binary, count),
        request_output("logits", binary, count),
    ]
    answer = client.infer(MODEL, [make_image(1, 2)], outputs=outputs)
    classes = answer.as_numpy("probabilities")
    assert classes.shape == (2, returned)
    texts = [str(text.decode() if binary else text) for text in classes[:, 0]]
    assert texts == ["0.999950:1:top right", "0.999950:2:bottom left"]
    first = answer.as_numpy("logits")[0, 0]
    assert (first.decode() if binary else first) == "10.000000:1:top right"


def test_encoded_images_of_any_size_are_accepted_as_bytes(
    client: triton.InferenceServerClient,
) -> None:
    large = encode(light(2, (400, 300)), "JPEG")
    files = np.array([encode(light(3)), large], dtype=np.object_)
    expected = [3, 2]
    for shape in ((2,), (2, 1)):
        answer = client.infer(MODEL, [make_input("image", files.reshape(shape), "BYTES")])
        assert answer.as_numpy("logits").argmax(axis=1).tolist() == expected
    texts = np.array([base64.b64encode(file) for file in files], dtype=np.object_)
    answer = client.infer(MODEL, [make_input("image", texts, "BYTES", binary=False)])
    assert answer.as_numpy("logits").argmax(axis=1).tolist() == expected


@pytest.mark.parametrize("request_compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_compression", [None, "gzip", "deflate"])
def test_bodies_may_be_compressed(
    client: triton.InferenceServerClient,
    request_compression: str | None,
    response_compression: str | None,
) -> None:
    quarters = [number % 4 for number in range(64)]
    answer = client.infer(
        MODEL,
        [make_image(*quarters), make_target([[-1]] * 64)],
        request_compression_algorithm=request_compression,
        response_compression_algorithm=response_compression,
    )
    assert answer.as_numpy("logits").argmax(axis=1).tolist() == quarters
    assert answer.as_numpy("cam").shape == (64, 1, 4, 4)


def test_answers_equal_those_of_the_native_api(
    client: triton.InferenceServerClient, server: Server
) -> None:
    picture = encode(light(1, (90, 60), level=200))
    predicted = server.client.post("/predict", content=picture, params={"top_k": 0}).json()
    headers = {"accept": "application/json"}
    explained = server.client.post(
        "/gradcam", content=picture, params={"target_index": 2}, headers=headers
    ).json()
    image = make_input("image", np.array([picture], dtype=np.object_), "BYTES")
    outputs = [request_output(name, binary=False) for name in OUTPUTS]
    answer = client.infer(MODEL, [image, make_target([[2]])], outputs=outputs)
    tensors = {output["name"]: output for output in answer.get_response()["outputs"]}
    by_index = {entry["index"]: entry["probability"] for entry in predicted["predictions"]}
    assert tensors["probabilities"]["data"] == [by_index[index] for index in range(4)]
    [explanation] = explained["explanations"]
    assert tensors["cam"]["shape"] == [1, 1, *explanation["shape"]]
    assert tensors["cam"]["data"] == np.ravel(explanation["cam"]).tolist()


def test_concurrent_requests_are_all_answered(client: triton.InferenceServerClient) -> None:
    with triton.InferenceServerClient(client._parsed_url.netloc, concurrency=8) as wide:
        calls = [wide.async_infer(MODEL, [make_encoded(number % 4)]) for number in range(32)]
        found = [int(call.get_result().as_numpy("logits").argmax()) for call in calls]
    assert found == [number % 4 for number in range(32)]


@pytest.mark.parametrize(
    ("inputs", "status", "message"),
    [
        ([make_target([[0]])], "400", "'image' is missing"),
        ([make_image(0), make_image(0)], "400", "given 2 times"),
        ([make_image(0), make_target([[9]])], "422", "no label with index 9"),
        ([make_image(0), make_target([[-2]])], "422", "no label with index -2"),
        ([make_image(0), make_target([[0], [1]])], "400", "shape [1, T]"),
        ([make_image(0), make_target([[0] * 9])], "400", "at most 8"),
        ([make_image(*[0] * 65)], "400", "N from 1 to 64"),
        ([make_input("image", make_pixels(0)[:, :16], "UINT8")], "400", "[N, 32, 32, 3]"),
        ([make_input("image", make_pixels(0).astype(np.float32), "FP32")], "400", "must be UINT8"),
        ([make_input("picture", make_pixels(0), "UINT8")], "400", "no input 'picture'"),
        (
            [make_input("image", np.array([b"no picture"], dtype=np.object_), "BYTES")],
            "415",
            "not an image in an accepted format",
        ),
    ],
)
def test_invalid_inputs_are_rejected_with_the_reason(
    client: triton.InferenceServerClient, inputs: list[Any], status: str, message: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, inputs)
    assert caught.value.status() == status
    assert message in caught.value.message()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (request_output("gradients"), "no output 'gradients'"),
        (request_output("cam", classes=2), "has no classes"),
    ],
)
def test_invalid_outputs_are_rejected_with_the_reason(
    client: triton.InferenceServerClient, output: triton.InferRequestedOutput, message: str
) -> None:
    with pytest.raises(InferenceServerException, match=message):
        client.infer(MODEL, [make_image(0)], outputs=[output])


def test_shared_memory_is_rejected(client: triton.InferenceServerClient) -> None:
    image = triton.InferInput("image", [1, 32, 32, 3], "UINT8")
    image.set_shared_memory("region", 3072)
    with pytest.raises(InferenceServerException, match="shared_memory_region' must be left out"):
        client.infer(MODEL, [image])


def test_unknown_models_and_versions_are_not_found(client: triton.InferenceServerClient) -> None:
    for name, version in (("nowhere", ""), (MODEL, "7"), (MODEL, "01")):
        assert not client.is_model_ready(name, version)
        with pytest.raises(InferenceServerException) as caught:
            client.infer(name, [make_image(0)], model_version=version)
        assert caught.value.status() == "404"
        assert f"there are: {MODEL}" in caught.value.message()


def test_other_paths_are_not_found(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="nothing at"):
        client.load_model(MODEL)


def test_the_requested_version_answers(strict_server: Server) -> None:
    with triton.InferenceServerClient(strict_server.url.removeprefix("http://")) as client:
        headers = {"Authorization": f"Bearer {KEY}"}
        versions = {
            requested: client.infer(
                MODEL, [make_image(0)], model_version=requested, headers=headers
            ).get_response()["model_version"]
            for requested in ("", "1", "2")
        }
    assert versions == {"": "2", "1": "1", "2": "2"}


def test_all_calls_except_health_require_a_key(strict_server: Server) -> None:
    with triton.InferenceServerClient(strict_server.url.removeprefix("http://")) as client:
        assert client.is_server_ready()
        with pytest.raises(InferenceServerException, match="API key") as caught:
            client.infer(MODEL, [make_image(0)])
    assert caught.value.status() == "401"


def test_plain_get_requests_work_without_triton_s_client(server: Server) -> None:
    assert httpx.get(f"{server.url}/v2/health/live").json() == {"live": True}
    assert httpx.get(f"{server.url}/v2/health/ready").json() == {"ready": True}
    ready = httpx.get(f"{server.url}/v2/models/{MODEL}/ready").json()
    assert ready == {"name": MODEL, "ready": True}
