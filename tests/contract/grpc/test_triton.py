"""Triton's own client over gRPC gets what it gets over HTTP."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.contract.wire import read_metric
from tests.server import Server
from tests.service.mask_model import BLUE, RED, paint
from tests.service.quadrants_model import encode, light

triton = pytest.importorskip("tritonclient.grpc", reason="tritonclient or grpcio is not installed")
KEY = {"authorization": "Bearer a-key"}
PICTURE = paint((RED, (4, 4, 20, 12)), (BLUE, (18, 10, 30, 23)), size=(32, 24))


def make_input(name: str, values: NDArray[Any], datatype: str) -> Any:
    """Return one input."""
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values)
    return tensor


def make_encoded(*quarters: int) -> Any:
    """Return the input `image` as PNG files."""
    files = [encode(light(quarter)) for quarter in quarters]
    return make_input("image", np.array(files, dtype=np.object_), "BYTES")


def make_pixels(*quarters: int) -> Any:
    """Return the input `image` as pixels."""
    pixels = np.stack([np.asarray(light(quarter)) for quarter in quarters])
    return make_input("image", pixels, "UINT8")


def make_target(targets: list[list[int]]) -> Any:
    """Return the input `target`."""
    return make_input("target", np.array(targets, np.int64), "INT64")


def test_server_and_models_are_described_as_over_http(
    client: Any, grpc_server: tuple[Server, int]
) -> None:
    http = grpc_server[0].client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("quadrants")
    assert client.is_model_ready("quadrants", "1")
    assert client.get_server_metadata(as_json=True) == http.get("/v2").json()
    for model in ("quadrants", "masks"):
        found = client.get_model_metadata(model)
        told = http.get(f"/v2/models/{model}").json()
        assert (found.name, list(found.versions), found.platform) == (
            told["name"],
            told["versions"],
            told["platform"],
        )
        for kind in ("inputs", "outputs"):
            tensors = [(t.name, t.datatype, list(t.shape)) for t in getattr(found, kind)]
            assert tensors == [(t["name"], t["datatype"], t["shape"]) for t in told[kind]]


def test_the_repository_index_lists_every_version(strict: tuple[Server, int]) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{strict[1]}") as client:
        index = client.get_model_repository_index(headers=KEY).models
    told = strict[0].client.post("/v2/repository/index").json()
    assert [
        {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}
        for one in index
    ] == told


def test_a_model_that_did_not_load_is_not_ready(strict: tuple[Server, int]) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{strict[1]}") as client:
        assert not client.is_model_ready("broken", headers=KEY)
        assert client.is_model_ready("quadrants", headers=KEY)


@pytest.mark.parametrize("make_image", [make_encoded, make_pixels])
def test_pictures_and_pixels_are_classified_and_explained(client: Any, make_image: Any) -> None:
    answer = client.infer(
        "quadrants", [make_image(0, 3), make_target([[-1, 1], [3, 0]])], request_id="my-id"
    )
    response = answer.get_response()
    assert (response.id, response.model_name, response.model_version) == ("my-id", "quadrants", "1")
    assert response.parameters["warnings"].string_param == "[[],[]]"
    assert [output.name for output in response.outputs] == ["logits", "probabilities", "cam"]
    np.testing.assert_allclose(
        answer.as_numpy("logits"), [[10, -1, -1, -1], [-1, -1, -1, 10]], rtol=1e-5
    )
    assert answer.as_numpy("logits").dtype == np.float32
    cam = answer.as_numpy("cam")
    assert cam.shape == (2, 2, 4, 4)
    np.testing.assert_allclose(cam[0, 0, :2, :2], 1, rtol=1e-5)


def test_only_the_requested_outputs_are_returned_in_the_requested_order(client: Any) -> None:
    outputs = [
        triton.InferRequestedOutput("cam"),
        triton.InferRequestedOutput("probabilities", class_count=2),
    ]
    answer = client.infer("quadrants", [make_encoded(2)], outputs=outputs)
    assert [output.name for output in answer.get_response().outputs] == ["cam", "probabilities"]
    assert answer.as_numpy("cam").shape == (1, 0, 4, 4)
    [[first, _]] = answer.as_numpy("probabilities").tolist()
    assert first.startswith(b"0.9999")
    assert first.endswith(b":2:bottom left")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_message_is_read(client: Any, algorithm: str) -> None:
    answer = client.infer("quadrants", [make_pixels(1)], compression_algorithm=algorithm)
    assert answer.as_numpy("logits").argmax() == 1


def test_a_large_message_arrives_whole(client: Any) -> None:
    answer = client.infer("quadrants", [make_pixels(*[0, 1, 2, 3] * 16)])
    assert answer.as_numpy("logits").argmax(axis=1).tolist() == [0, 1, 2, 3] * 16


def test_an_answer_larger_than_the_window_arrives_whole(client: Any) -> None:
    pixels = np.stack([np.asarray(PICTURE)] * 64)
    answer = client.infer(
        "masks",
        [make_input("image", pixels, "UINT8")],
        outputs=[triton.InferRequestedOutput("probabilities")],
    )
    found = answer.as_numpy("probabilities")
    assert found.nbytes > 500_000
    np.testing.assert_allclose(found, np.stack([found[0]] * 64), rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)


def test_masks_are_those_of_http(client: Any, grpc_server: tuple[Server, int]) -> None:
    pixels = np.asarray(PICTURE)[np.newaxis]
    target = make_target([[1]])
    answer = client.infer("masks", [make_input("image", pixels, "UINT8"), target])
    inputs = [
        {"name": "image", "datatype": "UINT8", "shape": [1, 24, 32, 3], "data": pixels.tolist()},
        {"name": "target", "datatype": "INT64", "shape": [1, 1], "data": [1]},
    ]
    told = grpc_server[0].client.post("/v2/models/masks/infer", json={"inputs": inputs}).json()
    for output in told["outputs"]:
        found = answer.as_numpy(output["name"])
        assert list(found.shape) == output["shape"]
        np.testing.assert_allclose(found.ravel(), output["data"], rtol=1e-6)


@pytest.mark.parametrize(
    ("model", "inputs", "code"),
    [
        ("nowhere", [{"name": "image", "datatype": "BYTES", "shape": [1]}], "NOT_FOUND"),
        ("quadrants/7", [{"name": "image", "datatype": "BYTES", "shape": [1]}], "NOT_FOUND"),
        ("quadrants", [{"name": "x", "datatype": "BYTES", "shape": [1]}], "INVALID_ARGUMENT"),
        ("quadrants", [{"name": "image", "datatype": "FP32", "shape": [1]}], "INVALID_ARGUMENT"),
        ("quadrants", [{"name": "image", "datatype": "BYTES", "shape": [1]}], "INVALID_ARGUMENT"),
        (
            "quadrants",
            [
                {"name": "image", "datatype": "BYTES", "shape": [1]},
                {"name": "target", "datatype": "INT64", "shape": [1, 1], "data": [99]},
            ],
            "INVALID_ARGUMENT",
        ),
    ],
)
def test_errors_have_the_sentences_of_http(
    client: Any,
    grpc_server: tuple[Server, int],
    model: str,
    inputs: list[dict[str, Any]],
    code: str,
) -> None:
    name, _, version = model.partition("/")
    path = f"/v2/models/{name}/versions/{version}" if version else f"/v2/models/{name}"
    bad = "bm8gcGljdHVyZQ=="  # no picture
    call = {"inputs": [{"data": [bad]} | tensor for tensor in inputs]}
    told = grpc_server[0].client.post(f"{path}/infer", json=call).json()["error"]
    sent = []
    for tensor in inputs:
        if tensor["datatype"] == "INT64":
            values: NDArray[Any] = np.array([[99]], np.int64)
        elif tensor["datatype"] == "BYTES":
            values = np.array([b"no picture"], dtype=np.object_)
        else:
            values = np.zeros(tensor["shape"], np.float32)
        sent.append(make_input(tensor["name"], values, tensor["datatype"]))
    with pytest.raises(triton.InferenceServerException) as caught:
        client.infer(name, sent, model_version=version)
    assert (caught.value.message(), caught.value.status()) == (told, f"StatusCode.{code}")


def test_a_key_is_needed_as_over_http(strict: tuple[Server, int]) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{strict[1]}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        for wrong in (None, {"authorization": "Bearer other"}, {"authorization": "a-key"}):
            with pytest.raises(triton.InferenceServerException) as caught:
                client.infer("quadrants", [make_encoded(0)], headers=wrong)
            assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
            assert "needs an API key" in caught.value.message()
        for right in (KEY, {"authorization": "bearer a-key"}):
            assert client.infer("quadrants", [make_encoded(0)], headers=right)


def test_the_limits_of_http_hold(strict: tuple[Server, int]) -> None:
    server, port = strict
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for image, message in (
            (make_encoded(*[0] * 5), "at most 4 at a time"),
            (make_pixels(*[0] * 80), "longer than 200000 bytes"),
        ):
            with pytest.raises(triton.InferenceServerException, match=message) as caught:
                client.infer("quadrants", [image], headers=KEY)
            assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    assert read_metric(server, "sightglass_queue_images") == 0
    assert read_metric(server, "sightglass_inflight_bytes") == 0


def test_calls_are_counted_and_logged(client: Any, grpc_server: tuple[Server, int]) -> None:
    server = grpc_server[0]
    route = "/inference.GRPCInferenceService/ModelInfer"
    labels = {"route": route, "status": "200"}
    before = read_metric(server, "sightglass_requests_total", **labels)
    client.infer(
        "quadrants", [make_encoded(0, 1), make_target([[0], [1]])], headers={"x-request-id": "g-1"}
    )
    [line] = server.wait_events(lambda event: event.get("request_id") == "g-1")
    assert (line["route"], line["status"], line["images"]) == (route, 200, 2)
    assert (line["model"], line["version"]) == ("quadrants", "1")
    assert read_metric(server, "sightglass_requests_total", **labels) == before + 1
