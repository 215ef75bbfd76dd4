"""Mean maps over a model's traffic, compared with those of the export: drift is detected."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema  # type: ignore[import-untyped]
import numpy as np
import pytest
from PIL import Image

from tests.contract.artifacts import wait_loaded
from tests.contract.tree import PICTURE, Tree
from tests.contract.wire import ask_both, read_metric
from tests.server import PATIENCE, Server, wait_until
from tests.service.quadrants_model import LABELS, encode, light, write_model
from tests.service.stamp_model import measure_attention, paint_many, write_stamp_model
from tests.warm_process import start_worker

SHARE = "sightglass_attention_border_share"
NUMBERS = {"accept": "application/json"}


@pytest.fixture(scope="module")
def stamp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the model that learned to read the stamp, for clean and stamped traffic."""
    folder = tmp_path_factory.mktemp("stamp")
    card = write_stamp_model(folder / "models" / "clean" / "1" / "model.onnx")
    write_stamp_model(folder / "models" / "stamped" / "1" / "model.onnx")
    (folder / "card.json").write_text(json.dumps(card))
    with start_worker(folder / "models", folder, default_model="clean") as running:
        wait_loaded(running)
        yield running


def predict_all(server: Server, model: str, stamped: bool) -> None:
    """Send sixty predictions without an explanation."""
    contents = [encode(Image.fromarray(pixels)) for pixels in paint_many(60, stamped, seed=5)]
    params = {"model": model}
    answer = server.client.post(
        "/predict/batch", params=params, files=[("image", content) for content in contents]
    )
    assert answer.status_code == 200, answer.text


def look(server: Server, model: str, **params: str) -> dict[str, Any]:
    answer = server.client.get(f"/models/{model}/attention", params=params)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_traffic_like_that_of_the_export_shows_no_drift(stamp: Server) -> None:
    predict_all(stamp, "clean", stamped=False)
    seen = look(stamp, "clean")
    assert seen["observed"]["maps"] == 60
    assert seen["observed"]["border_share"] == pytest.approx(
        seen["reference"]["border_share"], abs=0.05
    )
    assert seen["distance"] < 0.1
    assert all(known["distance"] < 0.1 for known in seen["classes"].values())


def test_a_stamp_that_the_model_reads_shows_drift(stamp: Server) -> None:
    predict_all(stamp, "stamped", stamped=True)
    seen = look(stamp, "stamped")
    trained = seen["reference"]["border_share"]
    assert seen["observed"]["border_share"] > trained + 0.3
    assert seen["distance"] > 0.4
    corner = np.array(seen["observed"]["mean"])
    assert corner.argmax() == 0  # the cell with the stamp
    assert set(seen["classes"]) == {"blue"}  # whatever the colour of the blob
    gauge = read_metric(
        stamp, "sightglass_attention_reference_border_share", model="stamped", version="1"
    )
    assert gauge == pytest.approx(trained)
    maps = read_metric(stamp, f"{SHARE}_count", model="stamped", version="1")
    assert read_metric(stamp, f"{SHARE}_sum", model="stamped", version="1") / maps > trained + 0.3
    near = read_metric(stamp, f"{SHARE}_bucket", model="stamped", version="1", le="0.4")
    assert near < 0.1 * maps


def test_the_means_equal_those_computed_in_plain_loops(stamp: Server, tmp_path: Path) -> None:
    import onnx

    path = tmp_path / "model.onnx"
    card = write_stamp_model(path)
    expected = measure_attention(onnx.load(str(path)), paint_many(60, stamped=True, seed=5))
    before = look(stamp, "stamped")["observed"]["maps"]
    predict_all(stamp, "stamped", stamped=True)
    seen = look(stamp, "stamped")
    assert seen["observed"]["maps"] == before + expected["maps"]
    assert seen["observed"]["border_share"] == pytest.approx(expected["border_share"], abs=1e-3)
    assert np.array(seen["observed"]["mean"]) == pytest.approx(np.array(expected["mean"]), abs=1e-3)
    assert seen["reference"]["mean"] == card["attention"]["mean"]
    one, other = (np.array(known["mean"]) for known in (expected, card["attention"]))
    distance = np.abs(one / one.sum() - other / other.sum()).sum() / 2
    assert seen["distance"] == pytest.approx(distance, abs=1e-3)


@pytest.fixture
def watched(tree: Tree) -> Tree:
    """A server whose model computes maps at no extra cost."""
    if not tree.path("watched").exists():  # to write it again would load it again, with no counts
        write_model(tree.path("watched"), created="then")
    tree.wait("ready", "watched")
    return tree


def count_maps(tree: Tree, name: str) -> float:
    counted = read_metric(tree.server, "sightglass_attention_maps_total", model=name, version="1")
    assert look(tree.server, name)["observed"]["maps"] == counted
    return counted


@pytest.mark.parametrize(
    ("call", "params", "maps"),
    [
        ("/predict", {}, 1),
        ("/gradcam", {}, 1),
        ("/gradcam", {"target_index": "2"}, 0),  # a map of a label that was not predicted
        ("/gradcam", {"target_index": "2", "against_index": "0"}, 1),
        ("/gradcam", {"target_top": "4"}, 1),
        ("/gradcam", {"verify": "true"}, 1),  # the blurred pictures are not traffic
        ("/gradcam/batch", {}, 1),
    ],
)
def test_each_picture_is_counted_once(
    watched: Tree, call: str, params: dict[str, str], maps: int
) -> None:
    before = count_maps(watched, "watched")
    answer = watched.server.client.post(
        call, content=PICTURE, params={"model": "watched", **params}, headers=NUMBERS
    )
    assert answer.status_code == 200, answer.text
    assert count_maps(watched, "watched") == before + maps


def test_if_maps_cost_extra_only_explanations_are_counted(tree: Tree) -> None:
    gradcam = {"layer": "grid", "method": "gradcam", "compiler": "backward"}
    write_model(tree.path("costly"), gradcam=gradcam)
    tree.wait("ready", "costly")
    assert tree.predict(model="costly").status_code == 200
    assert count_maps(tree, "costly") == 0
    tree.server.client.post("/gradcam?model=costly", content=PICTURE)
    assert count_maps(tree, "costly") == 1


def test_a_model_with_many_labels_runs_twice_but_is_counted_once(tree: Tree) -> None:
    write_model(tree.path("many"), labels=[*LABELS, *(f"no. {n}" for n in range(30))])
    tree.wait("ready", "many")
    call = "/gradcam?model=many&target_top=3"
    assert tree.server.client.post(call, content=PICTURE, headers=NUMBERS).status_code == 200
    assert count_maps(tree, "many") == 1


def test_empty_maps_are_not_counted(watched: Tree) -> None:
    before = count_maps(watched, "watched")
    black = encode(light(0, level=0))
    assert watched.server.client.post("/predict?model=watched", content=black).status_code == 200
    assert count_maps(watched, "watched") == before


def test_without_a_reference_the_distance_is_absent(watched: Tree) -> None:
    watched.predict(model="watched")
    seen = look(watched.server, "watched", version="1")
    assert (seen["model"], seen["version"]) == ("watched", "1")
    assert seen["reference"] is None
    assert seen["distance"] is None
    assert list(seen["classes"]) == ["top left"]
    page = watched.server.client.get("/metrics").text
    assert 'sightglass_attention_reference_border_share{model="watched"' not in page


def test_a_changed_file_starts_new_means(tree: Tree) -> None:
    write_model(tree.path("renewed"))
    old = tree.wait("ready", "renewed")
    tree.predict(model="renewed")
    assert count_maps(tree, "renewed") == 1
    write_model(tree.path("renewed"), created="later")
    wait_until(lambda: (tree.see("renewed") or old)["sha256"] != old["sha256"])
    assert count_maps(tree, "renewed") == 0


def test_a_mean_map_must_have_the_size_of_the_graph_s_maps(tree: Tree) -> None:
    attention = {"border_share": 0.5, "maps": 3, "mean": [[0.5, 1.0]]}
    write_model(tree.path("strange"), attention=attention)
    assert "mean map" in tree.wait("failed", "strange")["reason"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/nobody/attention", 404),
        ("/models/main/attention?version=7", 404),
        ("/models/main/attention?version=1&version=1", 400),
        ("/models/main/attention?class=1", 400),
    ],
)
def test_invalid_requests_for_attention_are_rejected(tree: Tree, path: str, status: int) -> None:
    rejected = tree.server.client.get(path)
    assert rejected.status_code == status
    assert rejected.json()["error"]["message"]


def test_the_answer_matches_the_schema(stamp: Server) -> None:
    document = stamp.client.get("/openapi.json").json()
    operation = document["paths"]["/models/{name}/attention"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    whole = schema | {"components": document["components"]}
    for model in ("clean", "stamped"):
        jsonschema.Draft202012Validator(whole).validate(look(stamp, model))


def test_means_are_summed_over_the_workers(pair: Server) -> None:
    def look_again() -> int:
        """Ask either of the workers on a new connection."""
        seen = httpx.get(f"{pair.url}/models/quadrants/attention", timeout=PATIENCE).json()
        return int(seen["observed"]["maps"])

    before = look_again()
    count = ask_both(pair)
    assert {look_again() for _ in range(6)} == {before + count}
    counted = read_metric(pair, "sightglass_attention_maps_total", model="quadrants")
    assert counted == before + count
