"""Answers of `POST /gradcam` and `/gradcam/batch`. test_heatmaps tests where the heat lies."""

import base64
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.contract.conftest import MANY, UNICODE
from tests.contract.pictures import paint, read
from tests.server import Server
from tests.service.quadrants_model import LABELS, encode, light
from tests.warm_process import start_worker

JSON = {"accept": "application/json"}


def mix(levels: tuple[int, int, int, int]) -> Image.Image:
    """Return an image whose four quarters have these brightnesses."""
    pixels = np.kron(np.array(levels, np.uint8).reshape(2, 2), np.ones((16, 16), np.uint8))
    return Image.fromarray(pixels).convert("RGB")


MIXED = encode(mix((100, 255, 180, 0)))  # sorted: top right, bottom left, top left, bottom right


def explain(server: Server, content: bytes = MIXED, **options: Any) -> dict[str, Any]:
    """Return the explanation as JSON."""
    response = server.client.post("/gradcam", content=content, params=options, headers=JSON)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_headers_of_a_picture_describe_the_prediction(server: Server) -> None:
    response = server.client.post("/gradcam", content=MIXED, params={"target": "bottom left"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.headers["x-model"] == "quadrants/1"
    assert response.headers["x-predicted-label"] == quote("top right")
    assert response.headers["x-target-label"] == quote("bottom left")
    reported = explain(server, target="bottom left")["explanations"][0]["target"]["probability"]
    assert float(response.headers["x-target-probability"]) == pytest.approx(reported, rel=1e-4)
    assert response.headers["vary"] == "Accept"


def test_headers_and_json_carry_labels_of_any_unicode(several: Server) -> None:
    for index, label in enumerate(UNICODE):
        options = {"model": "labels", "target": label}
        content = encode(light(index))
        response = several.client.post("/gradcam", content=content, params=options)
        assert label == unquote(response.headers["x-target-label"])
        assert label == unquote(response.headers["x-predicted-label"])
        assert response.headers["x-target-label"].isascii()
        reported = explain(several, content, **options)["explanations"][0]["target"]
        assert (label, index) == (reported["label"], reported["index"])


def test_a_png_names_its_model_target_and_layer(server: Server) -> None:
    response = server.client.post("/gradcam", content=MIXED, params={"target": "top left"})
    with Image.open(io.BytesIO(response.content)) as image:
        origin = json.loads(image.info["sightglass"])
    sha256 = server.client.get("/models/quadrants").json()["versions"][0]["sha256"]
    assert origin == {
        "model": "quadrants",
        "version": "1",
        "sha256": sha256,
        "target": "top left",
        "layer": "grid",
        "method": "gradcam",
    }


@pytest.mark.parametrize(
    ("accept", "file_format"),
    [("image/png", "PNG"), ("image/jpeg", "JPEG"), ("image/webp", "WEBP")],
)
def test_the_picture_has_the_requested_format(
    server: Server, accept: str, file_format: str
) -> None:
    response = server.client.post("/gradcam", content=MIXED, headers={"accept": accept})
    with Image.open(io.BytesIO(response.content)) as image:
        assert image.format == file_format
    png = read(server.client.post("/gradcam", content=MIXED).content).astype(int)
    assert np.abs(read(response.content) - png).mean() < 8


def test_json_is_a_prediction_plus_explanations(server: Server) -> None:
    answer = explain(server)
    predicted = server.client.post("/predict", content=MIXED).json()
    assert predicted == {key: value for key, value in answer.items() if key != "explanations"}
    [explanation] = answer["explanations"]
    assert list(explanation) == [
        *("target", "against", "layer", "method", "shape", "cam", "empty", "box")
    ]
    assert explanation["target"] == answer["predictions"][0]
    assert explanation["against"] is None
    assert explanation["layer"] == "grid"
    assert explanation["method"] == "gradcam"
    assert explanation["shape"] == [4, 4]
    assert np.shape(explanation["cam"]) == (4, 4)
    assert explanation["empty"] is False


def test_cam_is_the_signed_output_of_the_graph(server: Server) -> None:
    levels = np.array([[100, 255], [180, 0]]) / 255
    for index in range(4):
        weights = np.full(4, -0.1)
        weights[index] = 1
        expected = np.kron(levels * weights.reshape(2, 2), np.ones((2, 2)))
        [explanation] = explain(server, target_index=index)["explanations"]
        np.testing.assert_allclose(explanation["cam"], expected, atol=1e-6)


def test_the_default_target_is_the_most_probable_label(server: Server) -> None:
    own = explain(server)["explanations"]
    assert own[0]["target"]["label"] == "top right"
    assert own == explain(server, target="top right")["explanations"]
    assert own == explain(server, target_index=1)["explanations"]
    assert own == explain(server, target_top=1)["explanations"]


def test_several_targets_are_explained_in_the_requested_order(server: Server) -> None:
    targets = ["bottom right", "top left", "top right"]
    explanations = explain(server, target=targets)["explanations"]
    assert [e["target"]["label"] for e in explanations] == targets
    assert explanations == [explain(server, target=one)["explanations"][0] for one in targets]


@pytest.mark.parametrize("where", ["form", "query", "json"])
def test_target_may_be_repeated_in_form_query_and_json(server: Server, where: str) -> None:
    targets = ["bottom right", "top left"]
    how: dict[str, dict[str, Any]] = {
        "form": {"files": {"image": MIXED}, "data": {"target": targets}},
        "query": {"content": MIXED, "params": {"target": targets}},
        "json": {"json": {"image": base64.b64encode(MIXED).decode(), "target": targets}},
    }
    answer = server.client.post("/gradcam", headers=JSON, **how[where]).json()
    assert [e["target"]["label"] for e in answer["explanations"]] == targets


def test_target_top_explains_the_n_most_probable(server: Server) -> None:
    explanations = explain(server, target_top=3)["explanations"]
    assert [e["target"]["index"] for e in explanations] == [1, 2, 0]
    assert len(explain(server, target_top=8)["explanations"]) == 4


def test_target_top_and_against_work_with_many_labels(several: Server) -> None:
    answer = explain(several, model="many", target_top=2, against="label 3")
    assert [e["target"]["label"] for e in answer["explanations"]] == ["label 1", "label 2"]
    named = explain(several, model="many", target=["label 1", "label 2"], against="label 3")
    assert answer["explanations"] == named["explanations"]


def test_at_most_8_targets_are_explained(several: Server) -> None:
    for count, status in ((8, 200), (9, 400)):
        options = {"model": "many", "target": list(MANY[:count])}
        response = several.client.post("/gradcam", content=MIXED, params=options, headers=JSON)
        assert response.status_code == status
    assert "8" in response.json()["error"]["message"]


@pytest.mark.parametrize("options", [{"target": ["top left", "top right"]}, {"target_top": "2"}])
def test_a_picture_shows_one_target_only(server: Server, options: dict[str, Any]) -> None:
    response = server.client.post("/gradcam", content=MIXED, params=options)
    assert response.status_code == 400
    assert "Accept: application/json" in response.json()["error"]["message"]


def test_against_is_the_difference_of_the_two_cams(server: Server) -> None:
    both = explain(server, target=["top right", "bottom left"])["explanations"]
    [difference] = explain(server, target="top right", against="bottom left")["explanations"]
    np.testing.assert_allclose(
        difference["cam"], np.subtract(both[0]["cam"], both[1]["cam"]), atol=1e-7
    )
    assert difference["against"] == both[1]["target"]
    [by_index] = explain(server, target_index=1, against_index=2)["explanations"]
    assert by_index == difference


def test_the_map_of_a_label_against_itself_is_empty(server: Server) -> None:
    [explanation] = explain(server, against="top right")["explanations"]
    assert explanation["empty"] is True
    assert explanation["box"] is None
    plain = server.client.post(
        "/gradcam", content=MIXED, params={"against": "top right", "size": 0}
    )
    assert np.array_equal(np.asarray(mix((100, 255, 180, 0))), read(plain.content))


def test_without_positive_evidence_the_map_is_empty_and_the_overlay_is_the_plain_picture(
    server: Server,
) -> None:
    [explanation] = explain(server, target="bottom right")["explanations"]
    assert explanation["empty"] is True
    assert explanation["box"] is None
    assert np.min(explanation["cam"]) < 0
    options: dict[str, Any] = {"target": "bottom right", "size": 0, "alpha": 1}
    overlay = server.client.post("/gradcam", content=MIXED, params=options)
    assert np.array_equal(np.asarray(mix((100, 255, 180, 0))), read(overlay.content))


def test_the_signed_view_is_drawn_even_if_the_map_is_empty(server: Server) -> None:
    options: dict[str, Any] = {"target": "bottom right", "size": 0, "view": "signed", "alpha": 1}
    drawn = read(server.client.post("/gradcam", content=MIXED, params=options).content)
    red, _, blue = drawn[4, 28].astype(int)  # the strongest negative evidence
    assert blue > red


def test_the_signed_view_shows_positive_and_negative_evidence_in_two_colours(
    server: Server,
) -> None:
    picture = encode(mix((0, 255, 255, 0)))
    options = {"target": "top right", "against": "bottom left"}
    options |= {"size": "0", "view": "signed", "alpha": "1"}
    drawn = read(server.client.post("/gradcam", content=picture, params=options).content)
    assert drawn[2, 29].tolist() == [255, 140, 0]
    assert drawn[29, 2].tolist() == [40, 90, 255]
    assert drawn[2, 2].tolist() == drawn[29, 29].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("threshold", "start"), [(None, 16), ("0.5", 16), ("0.05", 12), ("0.15", 13), ("0.95", 20)]
)
def test_the_box_has_at_least_a_share_of_the_maximum_heat(
    server: Server, threshold: str | None, start: int
) -> None:
    options = {} if threshold is None else {"box_threshold": threshold}
    [explanation] = explain(server, encode(light(3)), **options)["explanations"]
    assert explanation["box"] == [start, start, 32, 32]  # half of the maximum: the bright quarter


def test_a_batch_has_one_box_threshold_for_all_pictures(server: Server) -> None:
    files = [("image", encode(light(quarter))) for quarter in (0, 3)]
    answer = server.client.post("/gradcam/batch", files=files, data={"box_threshold": "0.95"})
    boxes = [result["explanations"][0]["box"] for result in answer.json()["results"]]
    assert boxes == [[0, 0, 12, 12], [20, 20, 32, 32]]


def test_alpha_is_the_opacity_of_the_maximum_heat(server: Server) -> None:
    full = np.array([253, 231, 37])  # the bright end of viridis, on a white quarter
    for alpha, opacity in ((None, 0.6), (0, 0), (0.5, 0.5), (1, 1)):
        options: dict[str, Any] = {"size": 0} | ({} if alpha is None else {"alpha": alpha})
        response = server.client.post("/gradcam", content=encode(light(1)), params=options)
        expected = 255 * (1 - opacity) + full * opacity
        assert np.abs(expected - read(response.content)[3, 28]).max() <= 1


@pytest.mark.parametrize(
    ("colormap", "cold", "hot"),
    [
        (None, (68, 1, 84), (253, 231, 37)),
        ("viridis", (68, 1, 84), (253, 231, 37)),
        ("turbo", (48, 18, 59), (122, 4, 3)),
        ("gray", (0, 0, 0), (255, 255, 255)),
    ],
)
def test_the_heatmap_view_uses_the_requested_colormap(
    server: Server, colormap: str | None, cold: tuple[int, ...], hot: tuple[int, ...]
) -> None:
    options = {"view": "heatmap"} | ({"colormap": colormap} if colormap else {})
    drawn = read(
        server.client.post("/gradcam", content=encode(light(1)), params=options).content
    ).astype(int)
    assert np.abs(drawn[-1, 0] - cold).max() <= 2
    assert np.abs(drawn[10, -10] - hot).max() <= 2


@pytest.mark.parametrize(
    ("uploaded", "requested", "shown"),
    [
        ((100, 50), None, (224, 112)),
        ((300, 200), None, (300, 200)),
        ((1000, 2000), None, (512, 1024)),
        ((100, 50), 0, (100, 50)),
        ((2000, 1000), 0, (2000, 1000)),
        ((100, 50), 16, (16, 8)),
        ((100, 50), 4096, (4096, 2048)),
        ((1, 2000), 16, (1, 16)),
    ],
)
def test_size_is_the_longer_side_and_defaults_to_the_uploaded_side_within_224_and_1024(
    server: Server, uploaded: tuple[int, int], requested: int | None, shown: tuple[int, int]
) -> None:
    options = {} if requested is None else {"size": requested}
    content = encode(paint(90, uploaded))
    response = server.client.post("/gradcam", content=content, params=options)
    with Image.open(io.BytesIO(response.content)) as image:
        assert shown == image.size


@pytest.mark.parametrize(
    ("media_type", "longest"), [("image/jpeg", 65_500), ("image/webp", 16_383)]
)
def test_a_picture_too_large_for_a_format_is_rejected_and_smaller_sizes_work(
    server: Server, media_type: str, longest: int
) -> None:
    def ask(width: int, accept: str, **options: int) -> httpx.Response:
        return server.client.post(
            "/gradcam",
            content=encode(paint(90, (width, 2))),
            params={"size": 0} | options,
            headers={"accept": accept},
        )

    assert ask(longest, media_type).status_code == 200
    rejected = ask(longest + 1, media_type)
    assert (rejected.status_code, rejected.json()["error"]["code"]) == (422, "image_too_large")
    assert f"{longest + 1} x 2" in rejected.json()["error"]["message"]
    assert ask(longest + 1, media_type, size=1000).status_code == 200
    assert ask(longest + 1, "image/png").status_code == 200


def test_json_contains_pictures_only_if_a_view_is_named(server: Server) -> None:
    assert "picture" not in explain(server)["explanations"][0]
    for view in ("overlay", "heatmap", "signed"):
        explanations = explain(server, target_top=2, view=view)["explanations"]
        for explanation in explanations:
            options = {"view": view, "target_index": explanation["target"]["index"]}
            alone = server.client.post("/gradcam", content=MIXED, params=options)
            assert base64.b64decode(explanation["picture"]) == alone.content


@pytest.mark.parametrize("name", ["target", "against"])
def test_an_unknown_label_is_rejected_and_similar_labels_are_listed(
    server: Server, name: str
) -> None:
    response = server.client.post("/gradcam", content=MIXED, params={name: "botom left"})
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "unknown_label"
    assert "bottom left" in response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["target_index", "against_index"])
def test_an_index_without_a_label_is_rejected(server: Server, name: str) -> None:
    response = server.client.post("/gradcam", content=MIXED, params={name: "4"})
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "unknown_label"
    assert "0 to 3" in response.json()["error"]["message"]


def test_a_batch_explains_each_image_and_only_the_invalid_image_fails(server: Server) -> None:
    images = [base64.b64encode(encode(light(q))).decode() for q in (2, 0)]
    images.insert(1, base64.b64encode(b"no picture").decode())
    body = {"images": images, "target_top": 2, "view": "heatmap", "size": 16}
    results = server.client.post("/gradcam/batch", json=body).json()["results"]
    assert results[1]["error"]["code"] == "unsupported_media_type"
    for quarter, result in ((2, results[0]), (0, results[2])):
        single = explain(server, encode(light(quarter)), target_top=2, view="heatmap", size=16)
        assert result == {k: v for k, v in single.items() if k not in ("model", "version")}
        assert result["explanations"][0]["target"]["label"] == LABELS[quarter]


def test_an_unknown_label_rejects_the_whole_batch(server: Server) -> None:
    response = server.client.post("/gradcam/batch", content=MIXED, params={"target": "middle"})
    assert response.status_code == 422
    assert response.json()["error"]["code"] == "unknown_label"


def test_a_picture_that_cannot_be_drawn_in_time_is_not_begun(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    """A thread that draws can't be stopped at the deadline."""
    picture = encode(Image.new("L", (4000, 3000), 90))
    with start_worker(quadrants_dir, tmp_path, request_timeout_ms=1700) as server:
        server.wait_ready()
        for headers in ({}, JSON):
            options: dict[str, str | int] = {"size": 0, "view": "overlay"}
            answer = server.client.post(
                "/gradcam", content=picture, params=options, headers=headers
            )
            assert answer.status_code == 504
            assert "set 'size' to a smaller value" in answer.json()["error"]["message"]
        small = server.client.post("/gradcam", content=picture, params={"size": 224})
        assert small.status_code == 200
