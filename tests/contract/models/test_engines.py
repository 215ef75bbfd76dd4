"""Each model is served by the engine that the settings and its trial allow, and this is shown."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from service.repository.engines.choice import MIN_SPEEDUP
from service.runtime.openvino import is_installed
from service.runtime.session import has_cuda
from tests.contract.tree import PICTURE
from tests.contract.wire import read_metric
from tests.server import Server
from tests.service import mask_model
from tests.service.quadrants_model import (
    encode,
    make_card,
    make_golden,
    make_graph,
    save,
    write_model,
)
from tests.warm_process import start_worker

without_gpu = pytest.mark.skipif(has_cuda(), reason="auto would choose the GPU")
pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the package openvino")


def write_without_openvino(path: Path) -> None:
    """Write a model with an operator that OpenVINO does not have. It adds 0 to the logits."""
    card = make_card()
    model = make_graph(card)
    [place] = [i for i, node in enumerate(model.graph.node) if "logits" in node.output]
    model.graph.node[place].output[0] = "plain_logits"
    matrix = numpy_helper.from_array(np.zeros((2, 2), np.float32), "matrix_of_zeros")
    model.graph.initializer.append(matrix)
    determinant = helper.make_node("Det", ["matrix_of_zeros"], ["determinant"])
    addition = helper.make_node("Add", ["plain_logits", "determinant"], ["logits"])
    model.graph.node.insert(place + 1, determinant)
    model.graph.node.insert(place + 2, addition)
    card["golden"] = make_golden(model, card)
    save(model, card, path)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A worker that is told to use OpenVINO, with three models."""
    folder = tmp_path_factory.mktemp("engines")
    models = folder / "models"
    write_model(models / "main" / "1" / "model.onnx")
    write_without_openvino(models / "other" / "1" / "model.onnx")
    mask_model.write_model(models / "masks" / "1" / "model.onnx")
    with start_worker(models, folder, device="openvino", default_model="main") as server:
        server.wait_ready()
        for name in ("main", "other", "masks"):
            server.wait_logged(f'"model":"{name}/1","provider"')
        yield server


@pytest.fixture(scope="module")
def automatic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A worker that chooses itself and has an empty cache folder."""
    folder = tmp_path_factory.mktemp("automatic")
    write_model(folder / "models" / "main" / "1" / "model.onnx")
    write_without_openvino(folder / "models" / "other" / "1" / "model.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        with start_worker(folder / "models", folder, device="auto") as server:
            server.wait_logged('"model":"main/1","provider"', '"model":"other/1","provider"')
            yield server


@pytest.mark.parametrize("name", ["main", "masks"])
def test_openvino_serves_where_it_is_set(served: Server, name: str) -> None:
    [version] = served.client.get(f"/models/{name}").json()["versions"]
    assert version["provider"] == "cpu"
    assert version["engine"]["name"] == "openvino"
    assert version["engine"]["precision"] in ("bf16", "fp32")
    assert version["engine"]["reason"] is None
    labels = {"model": name, "provider": "cpu", "engine": "openvino"}
    assert read_metric(served, "sightglass_model_info", **labels) == 1


def test_what_openvino_cannot_run_is_served_by_onnxruntime_and_the_reason_is_shown(
    served: Server,
) -> None:
    [version] = served.client.get("/models/other").json()["versions"]
    assert version["state"] == "ready"
    engine = version["engine"]
    assert (engine["name"], engine["precision"]) == ("onnxruntime", "fp32")
    assert "is rejected by OpenVINO" in engine["reason"]
    served.wait_logged("is rejected by OpenVINO")
    assert served.client.post("/predict?model=other", content=PICTURE).status_code == 200


def test_the_answers_of_both_engines_agree(served: Server) -> None:
    found, expected = (
        served.client.post(
            f"/gradcam?model={name}&target_top=2",
            content=PICTURE,
            headers={"accept": "application/json"},
        ).json()
        for name in ("main", "other")
    )
    for one, other in zip(expected["predictions"], found["predictions"], strict=True):
        assert other["label"] == one["label"]
        assert other["probability"] == pytest.approx(one["probability"], abs=0.04)
    for one, other in zip(expected["explanations"], found["explanations"], strict=True):
        peak = np.abs(one["cam"]).max()
        np.testing.assert_allclose(other["cam"], one["cam"], atol=0.1 * peak)


def test_a_mask_is_explained_by_openvino(served: Server) -> None:
    picture = encode(Image.new("RGB", (64, 48), (200, 10, 10)))
    headers = {"accept": "application/json"}
    answer = served.client.post("/predict?model=masks", content=picture, headers=headers)
    assert answer.status_code == 200
    explained = served.client.post("/gradcam?model=masks", content=picture, headers=headers)
    assert explained.status_code == 200
    assert len(explained.json()["explanations"]) == 1


@without_gpu
def test_auto_measures_both_engines_and_shows_what_it_chose(automatic: Server) -> None:
    [version] = automatic.client.get("/models/main").json()["versions"]
    engine = version["engine"]
    assert engine["speedup"] > 0
    assert engine["name"] == ("openvino" if engine["speedup"] >= MIN_SPEEDUP else "onnxruntime")
    assert f"{engine['speedup']} times as fast" in engine["reason"]
    shown = read_metric(automatic, "sightglass_model_openvino_speedup", model="main")
    assert shown == engine["speedup"]
    assert read_metric(automatic, "sightglass_model_info", engine=engine["name"]) >= 1
    [line] = [event for event in automatic.read_events() if event.get("model") == "main/1"][-1:]
    assert line["engine"] == engine


@without_gpu
def test_auto_serves_what_openvino_cannot_run(automatic: Server) -> None:
    [version] = automatic.client.get("/models/other").json()["versions"]
    assert version["engine"]["name"] == "onnxruntime"
    assert version["engine"]["speedup"] is None
    # It is kept, so it must hold wherever the file lies at the next start.
    assert version["engine"]["reason"].startswith("The file is rejected by OpenVINO: ")


@without_gpu
def test_what_was_measured_is_kept_for_the_next_start(automatic: Server) -> None:
    folder = automatic.log_path.parent / "cache" / "sightglass" / "engines"
    assert len(list(folder.glob("*.json"))) == 2
