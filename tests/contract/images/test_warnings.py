"""Warnings: what comes with an answer that a person should doubt."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.contract.artifacts import wait_loaded
from tests.contract.wire import read_metric
from tests.server import Server
from tests.service.quadrants_model import (
    add_familiarity,
    encode,
    light,
    make_card,
    make_golden,
    make_graph,
    save,
)
from tests.warm_process import start_worker

THRESHOLDS = {
    "threshold": 0.6,
    "unfamiliar": {"score": "largest_logit", "threshold": 3.0, "auroc": 1.0},
}
SURE = encode(light(2))  # logits 10 and -1
UNSURE = encode(Image.new("RGB", (32, 32), (128, 128, 128)))  # all logits 3.5
STRANGE = encode(light(2, level=60))  # largest logit 2.4, probability 0.8
BOTH = encode(Image.new("RGB", (32, 32)))  # all logits 0
JSON = {"accept": "application/json"}
CASES: list[tuple[bytes, list[str]]] = [
    (SURE, []),
    (UNSURE, ["low_confidence"]),
    (STRANGE, ["unfamiliar"]),
    (BOTH, ["low_confidence", "unfamiliar"]),
]


@pytest.fixture(scope="module")
def judging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A worker with models that have thresholds, and one without."""
    folder = tmp_path_factory.mktemp("judging")
    energy = {"unfamiliar": {"score": "energy", "threshold": 4.0}}
    write_judged_model(folder / "models" / "judged", THRESHOLDS)
    write_judged_model(folder / "models" / "energy", energy)
    write_judged_model(folder / "models" / "old", None)
    write_judged_model(
        folder / "models" / "several", {"threshold": [0.9, 0.9, 0.5, 0.9]}, task="multilabel"
    )
    features = {"unfamiliar": {"score": "familiarity", "threshold": 40.0}}
    write_judged_model(folder / "models" / "features", features)
    with start_worker(folder / "models", folder, default_model="judged") as running:
        wait_loaded(running)
        yield running


def write_judged_model(
    folder: Path, confidence: dict[str, Any] | None, task: str = "multiclass"
) -> None:
    """Write the quadrants model. Its familiarity is the mean of the pixels."""
    card = make_card(task=task) | ({} if confidence is None else {"confidence": confidence})
    model = make_graph(card)
    card["golden"] = make_golden(model, card)
    add_familiarity(model)
    save(model, card, folder / "1" / "model.onnx")


def predict(server: Server, picture: bytes, model: str = "judged") -> list[str]:
    """The codes of the warnings of `/predict`."""
    answer = server.client.post("/predict", content=picture, params={"model": model}).json()
    return read_codes(answer)


def read_codes(result: dict[str, Any]) -> list[str]:
    """The codes of the warnings of a result. Each has one sentence."""
    assert all(warning["message"].endswith(".") for warning in result["warnings"])
    return [warning["code"] for warning in result["warnings"]]


@pytest.mark.parametrize(("picture", "codes"), CASES)
def test_a_prediction_says_what_speaks_against_it(
    judging: Server, picture: bytes, codes: list[str]
) -> None:
    assert predict(judging, picture) == codes


def test_the_messages_are_for_people(judging: Server) -> None:
    [unsure, strange] = judging.client.post("/predict", content=BOTH).json()["warnings"]
    assert unsure["message"] == (
        "The model is not sure: the probability of its answer is 25.00 %, below the threshold "
        "of 60.00 %."
    )
    assert strange["message"] == "The picture is unlike those that the model knows."


def test_each_result_of_a_batch_has_its_own_warnings(judging: Server) -> None:
    files = [("image", picture) for picture, _ in CASES]
    for call in ("/predict/batch", "/gradcam/batch"):
        results = judging.client.post(call, files=files).json()["results"]
        assert [read_codes(result) for result in results] == [codes for _, codes in CASES]


@pytest.mark.parametrize(("picture", "codes"), CASES)
def test_a_map_in_numbers_has_the_warnings_of_the_top_class_whatever_the_target(
    judging: Server, picture: bytes, codes: list[str]
) -> None:
    answer = judging.client.post(
        "/gradcam", content=picture, params={"target_index": 1}, headers=JSON
    ).json()
    assert read_codes(answer) == codes


@pytest.mark.parametrize(("picture", "codes"), CASES)
def test_a_picture_has_the_codes_in_a_header(
    judging: Server, picture: bytes, codes: list[str]
) -> None:
    headers = judging.client.post("/gradcam", content=picture).headers
    assert headers.get("x-warnings") == (", ".join(codes) or None)


def infer(server: Server, pictures: list[bytes], model: str = "judged") -> dict[str, Any]:
    """What `/v2` answers to encoded pictures."""
    data = [base64.b64encode(picture).decode() for picture in pictures]
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": data}
    response = server.client.post(f"/v2/models/{model}/infer", json={"inputs": [tensor]})
    answer: dict[str, Any] = response.json()
    assert response.status_code == 200, answer
    return answer


def test_v2_has_the_warnings_of_each_image_in_its_parameters(judging: Server) -> None:
    answer = infer(judging, [picture for picture, _ in CASES])
    warnings = json.loads(answer["parameters"]["warnings"])
    assert [read_codes({"warnings": own}) for own in warnings] == [codes for _, codes in CASES]


def test_a_card_without_thresholds_gives_no_warnings(judging: Server) -> None:
    assert predict(judging, BOTH, "old") == []
    assert json.loads(infer(judging, [BOTH], "old")["parameters"]["warnings"]) == [[]]
    response = judging.client.post("/gradcam", content=BOTH, params={"model": "old"})
    assert "x-warnings" not in response.headers


def test_the_energy_is_the_logarithm_of_the_sum_of_exponentials(judging: Server) -> None:
    level = round(255 * (4.0 - np.log(4)) / 7)  # of a gray at which it is 4
    codes = [
        predict(judging, encode(Image.new("RGB", (32, 32), (gray,) * 3)), "energy")
        for gray in (level - 2, level + 2)
    ]
    assert codes == [["unfamiliar"], []]


def test_a_multi_label_model_warns_if_no_label_reaches_its_threshold(judging: Server) -> None:
    dim = light(2, level=40)  # probabilities 0.64 and three times 0.12
    assert predict(judging, encode(dim), "several") == []
    assert predict(judging, encode(dim.rotate(90)), "several") == ["low_confidence"]


def test_the_output_of_the_graph_can_judge_familiarity(judging: Server) -> None:
    assert predict(judging, SURE, "features") == []  # the mean of the pixels is 64
    assert predict(judging, STRANGE, "features") == ["unfamiliar"]  # 15
    answer = infer(judging, [SURE, STRANGE], "features")
    familiarity = answer["outputs"][-1]
    assert familiarity["name"] == "familiarity"
    assert familiarity["data"] == pytest.approx([63.75, 15])
    assert "familiarity" not in json.dumps(infer(judging, [SURE]))


def test_the_log_and_a_counter_say_which_warnings_were_given(judging: Server) -> None:
    labels = {"model": "judged", "code": "unfamiliar"}
    before = read_metric(judging, "sightglass_warnings_total", **labels)
    files = [("image", picture) for picture in (STRANGE, BOTH, SURE)]
    identifier = {"x-request-id": "two-are-strange"}
    judging.client.post("/predict/batch", files=files, headers=identifier)
    assert read_metric(judging, "sightglass_warnings_total", **labels) == before + 2

    [line] = judging.wait_events(lambda event: event.get("request_id") == "two-are-strange")
    assert line["warnings"] == ["unfamiliar", "low_confidence"]
