"""Models are added, replaced, removed and fail while the service answers. Also its start."""

import shutil
import threading
from pathlib import Path

import httpx

from tests.contract.artifacts import write_slow_model
from tests.contract.tree import PICTURE, Tree
from tests.server import PATIENCE, wait_until
from tests.service.quadrants_model import LABELS, write_model
from tests.warm_process import start_worker

OTHER_LABELS = ["north west", "north east", "south west", "south east"]


def test_while_loading_the_service_is_alive_but_not_ready_and_says_why(tmp_path: Path) -> None:
    write_slow_model(tmp_path / "models" / "slow" / "1" / "model.onnx", seconds=0.3)
    with start_worker(tmp_path / "models", tmp_path) as server:
        server.wait_answering()
        readiness = server.client.get("/readyz")
        assert readiness.status_code == 503
        assert readiness.json()["ready"] is False
        assert "loading" in readiness.json()["reasons"][0]
        rejected = server.client.post("/predict", content=PICTURE)
        assert rejected.status_code == 503
        assert rejected.json()["error"]["code"] == "not_ready"
        assert int(rejected.headers["retry-after"]) >= 1
        wait_until(lambda: bool(server.client.get("/models").json()["models"]))
        [model] = server.client.get("/models").json()["models"]
        assert model["versions"][0]["state"] == "loading"
        server.wait_ready()
        assert server.client.get("/readyz").json() == {
            "ready": True,
            "reasons": [],
            "provider": "cpu",
        }


def test_an_empty_repository_is_not_ready_until_a_model_is_added(tmp_path: Path) -> None:
    with start_worker(tmp_path / "models", tmp_path, model_poll_seconds=0.1) as server:
        server.wait_answering()
        wait_until(lambda: "does not exist" in server.client.get("/readyz").text)
        assert server.client.get("/readyz").status_code == 503
        assert server.client.get("/models").json() == {"models": []}
        rejected = server.client.post("/predict", content=PICTURE)
        assert rejected.status_code == 503
        assert rejected.headers["retry-after"]
        write_model(tmp_path / "models" / "beta" / "1" / "model.onnx")
        server.wait_ready()
        assert server.client.post("/predict", content=PICTURE).json()["model"] == "beta"


def test_adding_a_model_changes_neither_readiness_nor_the_default(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_model(models / "land" / "1" / "model.onnx")
    with start_worker(models, tmp_path, model_poll_seconds=0.1) as server:
        server.wait_ready()
        (models / "broken" / "1").mkdir(parents=True)
        (models / "broken" / "1" / "model.onnx").write_bytes(b"no model")
        write_model(models / "alpha" / "1" / "model.onnx")
        tree = Tree(server, models)
        tree.wait("failed", "broken")
        tree.wait("ready", "alpha")
        assert server.client.get("/readyz").status_code == 200
        assert tree.predict().json()["model"] == "land"
        shutil.rmtree(models / "land")
        wait_until(lambda: tree.predict().json().get("model") == "alpha")
        listed = server.client.get("/models").json()["models"]
        assert [(m["name"], m["default"]) for m in listed] == [("alpha", True), ("broken", False)]


def test_without_its_default_model_the_service_is_not_ready(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    with start_worker(quadrants_dir, tmp_path, default_model="nobody") as server:
        server.wait_answering()
        wait_until(lambda: "quadrants" in server.client.get("/readyz").text)
        readiness = server.client.get("/readyz")
        assert readiness.status_code == 503
        assert "'nobody'" in readiness.json()["reasons"][0]
        server.wait_logged("The default model 'nobody' is not in")
        named = server.client.post("/predict", content=PICTURE, params={"model": "quadrants"})
        wait_until(
            lambda: server.client.get("/models/quadrants").json()["versions"][0]["state"] == "ready"
        )
        named = server.client.post("/predict", content=PICTURE, params={"model": "quadrants"})
        assert named.status_code == 200


def test_models_are_listed_with_state_provider_hash_and_card(tree: Tree) -> None:
    listed = tree.server.client.get("/models").json()["models"]
    model = next(model for model in listed if model["name"] == "main")
    assert model["default"] is True
    version = model["versions"][0]
    keys = ["version", "state", "reason", "provider", "engine", "sha256", "card"]
    assert list(version) == keys
    assert (version["version"], version["state"], version["reason"]) == ("1", "ready", None)
    assert version["provider"] == "cpu"
    engine = {"name": "onnxruntime", "precision": "fp32", "speedup": None, "reason": None}
    assert version["engine"] == engine
    assert len(version["sha256"]) == 64
    assert version["card"]["labels"] == list(LABELS)
    assert tree.server.client.get("/models/main").json() == model


def test_an_unknown_model_is_not_found(tree: Tree) -> None:
    response = tree.server.client.get("/models/nobody")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "main" in response.json()["error"]["message"]


def test_a_new_version_answers_once_it_is_ready_and_the_old_one_until_then(tree: Tree) -> None:
    write_model(tree.path("grown"))
    tree.wait("ready", "grown")
    write_slow_model(tree.path("grown", 2), seconds=0.3)
    tree.wait("loading", "grown", 2)
    assert tree.predict(model="grown").json()["version"] == "1"
    assert tree.predict(model="grown/2").status_code == 503
    tree.wait("ready", "grown", 2)
    assert tree.predict(model="grown").json()["version"] == "2"
    lines = tree.server.wait_events(lambda line: line.get("model") == "grown/2", 2)
    assert [line["event"] for line in lines[:2]] == ["model loading", "model ready"]


def test_a_copied_folder_is_a_new_version(tree: Tree) -> None:
    write_model(tree.path("copied"))
    tree.wait("ready", "copied")
    shutil.copytree(tree.path("copied").parent, tree.path("copied", 2).parent)
    second = tree.wait("ready", "copied", 2)
    first = tree.see("copied", 1)
    assert first
    assert first["sha256"] == second["sha256"]


def test_a_replaced_file_takes_over_between_two_requests(tree: Tree) -> None:
    write_model(tree.path("swapped"))
    old = tree.wait("ready", "swapped")
    answers: list[httpx.Response] = []
    stopped = threading.Event()

    def ask_steadily() -> None:
        with httpx.Client(base_url=tree.server.url, timeout=PATIENCE) as client:
            while not stopped.is_set():
                params = {"model": "swapped"}
                answers.append(client.post("/predict", content=PICTURE, params=params))

    asking = threading.Thread(target=ask_steadily)
    asking.start()
    try:
        wait_until(lambda: len(answers) > 2)
        write_model(tree.path("swapped"), labels=OTHER_LABELS)

        def is_swapped() -> bool:
            seen = tree.see("swapped")
            assert seen
            return bool(seen["sha256"] != old["sha256"])

        wait_until(is_swapped)
        count = len(answers)
        wait_until(lambda: len(answers) > count + 2)
    finally:
        stopped.set()
        asking.join()
    assert {answer.status_code for answer in answers} == {200}
    labels = [answer.json()["predictions"][0]["label"] for answer in answers]
    assert labels[0] == "top left"
    assert labels[-1] == "north west"
    assert labels == sorted(labels, reverse=True)  # no old answer follows a new one


def test_an_invalid_replacement_is_reported_and_the_old_file_still_serves(tree: Tree) -> None:
    write_model(tree.path("kept"))
    good = tree.wait("ready", "kept")
    temporary = tree.path("kept").with_suffix(".part")
    temporary.write_bytes(tree.path("kept").read_bytes()[:-100])
    temporary.rename(tree.path("kept"))
    failed = tree.wait("failed", "kept")
    assert str(tree.path("kept")) in failed["reason"]
    assert failed["sha256"] == good["sha256"]  # the hash of the model that still answers
    assert tree.predict(model="kept").status_code == 200
    assert tree.wait_event("kept/1", "model failed")["reason"] == failed["reason"]
    write_model(tree.path("kept"), labels=OTHER_LABELS)
    assert tree.wait("ready", "kept")["reason"] is None
    assert tree.predict(model="kept").json()["predictions"][0]["label"] == "north west"


def test_an_invalid_new_version_leaves_the_one_before_serving(tree: Tree) -> None:
    write_model(tree.path("stepped"))
    tree.wait("ready", "stepped")
    tree.path("stepped", 2).parent.mkdir()
    tree.path("stepped", 2).write_bytes(b"no model")
    assert tree.wait("failed", "stepped", 2)["card"] is None
    assert tree.predict(model="stepped").json()["version"] == "1"
    assert tree.predict(model="stepped/2").status_code == 503


def test_after_a_version_is_removed_the_one_before_answers(tree: Tree) -> None:
    for version in (1, 2):
        write_model(tree.path("shrunk", version))
        tree.wait("ready", "shrunk", version)
    assert tree.predict(model="shrunk").json()["version"] == "2"
    shutil.rmtree(tree.path("shrunk", 2).parent)
    tree.wait(None, "shrunk", 2)
    assert tree.predict(model="shrunk").json()["version"] == "1"
    shutil.rmtree(tree.folder / "shrunk")
    tree.wait(None, "shrunk")
    assert tree.predict(model="shrunk").status_code == 404
    tree.wait_event("shrunk/1", "model removed")


def test_without_the_default_model_it_is_not_ready_until_the_model_is_back(tree: Tree) -> None:
    away = tree.folder.parent / "away"
    (tree.folder / "main").rename(away)
    wait_until(lambda: tree.server.client.get("/readyz").status_code == 503)
    away.rename(tree.folder / "main")
    tree.server.wait_ready()


def test_files_that_do_not_match_the_layout_are_ignored(tree: Tree) -> None:
    places = ("Upper/1", "dash-/x", "zero/0", "named/latest", "_under/1", "negative/-1")
    for place in places:
        write_model(tree.folder / place / "model.onnx")
    write_model(tree.path("after"))
    tree.wait("ready", "after")
    names = {model["name"] for model in tree.server.client.get("/models").json()["models"]}
    assert not names & {place.partition("/")[0] for place in places}
    tree.server.wait_logged(*(f"{place}/model.onnx is not served" for place in places))


def test_without_polling_new_models_are_not_loaded(quadrants_dir: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    shutil.copytree(quadrants_dir, models)
    with start_worker(models, tmp_path, model_poll_seconds=0) as server:
        server.wait_ready()
        write_model(models / "later" / "1" / "model.onnx")
        pause = threading.Event()
        assert not pause.wait(1)  # a scan takes much less
        assert server.client.get("/models/later").status_code == 404
