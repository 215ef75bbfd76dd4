"""The benchmarks measure what they claim, on a small scale. No test depends on a speed."""

import dataclasses
import io
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import precisions
from benchmarks.__main__ import PAGES
from benchmarks.bound import find_answers, measure_bound
from benchmarks.client import Load, Request, send_load
from benchmarks.contenders import OURS, OURS_BY_DEFAULT, make_our_requests
from benchmarks.material import Pictures, make_cells
from benchmarks.ours import mix
from benchmarks.plot import draw
from benchmarks.queueing import measure_queue
from benchmarks.ratios import bound, cost_of_maps
from benchmarks.samples import Results, Sample, read_results
from benchmarks.server import Server
from benchmarks.table import write_pages
from benchmarks.targets import TARGETS
from benchmarks.trial import Trial
from tests.server import LaunchedServer
from tests.service import mask_model
from tests.service.quadrants_model import encode, light
from tests.warm_process import start_worker

SECONDS = 0.3


@pytest.fixture(scope="module")
def pictures(quadrants_dir: Path) -> Pictures:
    """One picture for each label of the tiny model."""
    path = quadrants_dir / "quadrants" / "1" / "model.onnx"
    files = tuple(encode(light(quarter, (48, 32))) for quarter in range(4))
    return Pictures("photo", "quadrants", path, "image/png", files)


@pytest.fixture
def trial(launched: LaunchedServer) -> Trial:
    return Trial(Server(OURS, launched.port, launched.process, 1.5), OURS, SECONDS)


def load(trial: Trial, requests: list[Request], clients: int) -> Sample:
    """Run a short load, again if the machine had no time for it."""
    for _ in range(20):
        sample = trial.load("photo", requests, clients)
        if sample.figures["rps"] or sample.figures["errors"]:
            break
    return sample


def test_the_right_answers_are_found_without_a_server(pictures: Pictures) -> None:
    assert find_answers(pictures)[1] == [0, 1, 2, 3]


def test_a_load_counts_right_answers(trial: Trial, pictures: Pictures) -> None:
    sample = load(trial, make_our_requests(*find_answers(pictures)), 4)
    assert sample.figures["errors"] == 0
    assert sample.figures["rps"] > 0
    assert 0 < sample.figures["p50"] <= sample.figures["p95"] <= sample.figures["p99"]
    assert sample.figures["server_cpu_ms"] > 0
    assert sample.figures["worker_mb"] > 10


def test_a_wrong_answer_is_an_error(trial: Trial, pictures: Pictures) -> None:
    found, tops = find_answers(pictures)
    sample = load(trial, make_our_requests(found, tops[::-1]), 2)
    assert sample.figures["errors"] > 0
    assert sample.figures["rps"] == 0


def test_an_open_loop_sends_at_its_own_rate(trial: Trial, pictures: Pictures) -> None:
    sample = trial.pace("photo paced 80 %", make_our_requests(*find_answers(pictures)), 100)
    assert sample.figures["errors"] == 0
    assert sample.figures["rps"] * SECONDS <= 100 * SECONDS + 1


def test_a_mask_is_right_if_a_class_has_the_right_number_of_pixels(tmp_path: Path) -> None:
    mask_model.write_model(tmp_path / "models" / "cells" / "1" / "model.onnx")
    path = tmp_path / "models" / "cells" / "1" / "model.onnx"
    boxes = ((0, 0, 8, 8), (4, 4, 20, 12))
    files = tuple(encode(mask_model.paint((mask_model.RED, box), size=(32, 24))) for box in boxes)
    found, tops = find_answers(Pictures("mask", "cells", path, "image/png", files))
    assert tops == [32 * 24 - 64, 32 * 24 - 128]
    with start_worker(tmp_path / "models", tmp_path) as server:
        server.wait_ready()
        for call in ("/predict", "/gradcam"):
            right = make_our_requests(found, tops, call, accept="application/json")
            wrong = make_our_requests(found, tops[::-1], call, accept="application/json")
            assert not send_until_answered(server.port, right).errors
            assert send_until_answered(server.port, wrong).errors


def send_until_answered(port: int, requests: list[Request]) -> Load:
    """Send a short load, again if the machine had no time for it."""
    for _ in range(20):
        load = send_load(port, requests, 2, SECONDS, 0)
        if load.answers or load.errors:
            break
    return load


def test_the_bound_of_masks_is_that_of_their_best_layout(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    mask_model.write_model(path)
    picture = encode(mask_model.paint((mask_model.RED, (0, 0, 8, 8)), size=(32, 24)))
    results = Results(
        {}, measure_bound(Pictures("mask", "cells", path, "image/png", (picture,)), 0.002)
    )
    most = bound(results, "mask")[0]
    assert most == max(s.figures["rps"] for s in results.samples if "together" in s.who)
    assert cost_of_maps("mask")(results)[0] > 0


def test_the_cells_are_pictures_of_the_bundled_model_s_size() -> None:
    files = make_cells().files
    assert len({*files}) == len(files) == 8
    assert {Image.open(io.BytesIO(file)).size for file in files} == {(256, 256)}


def test_one_request_in_five_of_a_mix_is_a_map() -> None:
    predictions = [Request(b"p%d" % number, b"") for number in range(6)]
    mixed = mix(predictions, [Request(b"m%d" % number, b"", 1) for number in range(6)])
    assert [request.kind for request in mixed] == [0, 0, 0, 0, 1] * 6
    assert {request.message for request in mixed if not request.kind} == {
        request.message for request in predictions
    }


def test_maps_have_their_own_latencies(trial: Trial, pictures: Pictures) -> None:
    found = find_answers(pictures)
    maps = make_our_requests(*found, "/gradcam", accept="image/png", kind=1)
    sample = load(trial, mix(make_our_requests(*found), maps), 2)
    assert sample.figures["errors"] == 0
    assert sample.figures["p50_1"] > 0


def test_a_run_is_written_as_pages_and_a_picture(pictures: Pictures, tmp_path: Path) -> None:
    bound = list(measure_bound(pictures, 0.002))
    load = {"rps": 90.0, "p50": 1.0, "p95": 2.0, "p99": 3.0, "errors": 0.0}
    ours = [Sample("photo", OURS, clients, load) for clients in (1, 8, 32)]
    theirs = [dataclasses.replace(s, who="mosec x2", figures=load | {"rps": 100.0}) for s in ours]
    others = {OURS_BY_DEFAULT: 190.0, "fastapi openvino x2": 200.0}
    by_engine = [
        dataclasses.replace(s, who=who, figures=load | {"rps": rate})
        for who, rate in others.items()
        for s in ours
    ]
    about = {"date": "today", "machine": "this", "versions": "1"}
    results = Results(about, [*bound, *ours, *theirs, *by_engine])
    results.write(tmp_path / "results.json")
    read = read_results(tmp_path / "results.json")
    assert read.samples == results.samples
    pages = [tmp_path / page.name for page in PAGES]
    for copy, page in zip(pages, PAGES, strict=True):
        copy.write_text(page.read_text())
    write_pages(read, pages)
    first, second = (page.read_text() for page in pages)
    against = "500x375, 32 clients, against"
    assert f"| {against} the best other | ≥ 0.97 x | 0.9 | **missed** |" in first
    assert f"| by default: {against} the best other | ≥ 1.7 x | 1.9 | met |" in first
    assert f"| by default: {against} FastAPI in OpenVINO | ≥ 0.97 x | 0.95 | **missed** |" in first
    assert "| ResNet-18, 500x375 | 32 | mosec x2 | 100 |" in second
    assert "| ResNet-18, 500x375 | 32 | **sightglass by default** | 190 |" in second
    draw(read, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_queue_is_measured_in_a_thread_and_on_the_event_loop() -> None:
    samples = list(measure_queue(8, 0.02))
    assert [sample.who for sample in samples] == ["in a thread", "on the loop"]
    assert all(0 < sample.figures["us"] < 1e6 for sample in samples)


def test_photographs_are_copied_into_one_folder_per_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "CACHE", tmp_path / "cache")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in ("n01_a.JPEG", "n01_b.JPEG", "n02_c.JPEG"):
        (photographs / name).write_bytes(name.encode())
    labels = tmp_path / "labels.tsv"
    labels.write_text("0\tn01\tgreat gray owl\n1\tn02\ttinca\n")
    folder = precisions.sort_by_label(photographs, labels)
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*.JPEG")) == [
        "great gray owl/n01_a.JPEG",
        "great gray owl/n01_b.JPEG",
        "tinca/n02_c.JPEG",
    ]


def test_lower_precision_is_not_measured_without_the_data_set(
    pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIGHTGLASS_DATA", raising=False)
    assert list(precisions.measure_precisions(pictures, 0.01)) == []


def test_every_target_has_its_own_name() -> None:
    names = [target.what for target in TARGETS]
    assert len(names) == len(set(names))
