"""Request ids, timings, one log line per request, and metrics."""

import contextlib
import json
import re
from typing import Any

import pytest

from tests.contract.tree import PICTURE
from tests.contract.wire import ask_both, connect, read_metric, start_post
from tests.server import Server, wait_until

CALLS = ("/predict", "/gradcam", "/predict/batch", "/gradcam/batch")


def find_line(server: Server, request_id: str) -> dict[str, Any]:
    """Return the one log line of a request."""
    [line] = server.wait_events(
        lambda event: event["event"] == "request" and event["request_id"] == request_id
    )
    return line


@pytest.mark.parametrize("valid_id", ["a", "req-1.2_3:4", "x" * 128, "0af7651916cd43dd"])
def test_a_valid_request_id_of_the_client_is_kept(server: Server, valid_id: str) -> None:
    response = server.client.get("/models", headers={"x-request-id": valid_id})
    assert response.headers["x-request-id"] == valid_id


@pytest.mark.parametrize("invalid_id", ["", "x" * 129, "a b", "a\tb", "<script>", "ä"])
def test_an_invalid_request_id_is_replaced(server: Server, invalid_id: str) -> None:
    headers = {"x-request-id": invalid_id.encode("latin-1")}
    response = server.client.get("/models", headers=headers)  # type: ignore[arg-type]
    assert re.fullmatch(r"[A-Za-z0-9._:-]+", response.headers["x-request-id"])
    assert response.headers["x-request-id"] != invalid_id


def test_every_response_has_a_unique_id(server: Server) -> None:
    paths = ("/livez", "/readyz", "/metrics", "/docs", "/openapi.json", "/", "/nowhere", "/models")
    ids = [server.client.get(path).headers["x-request-id"] for path in paths * 2]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("call", CALLS)
def test_answers_of_a_model_have_timings(server: Server, call: str) -> None:
    response = server.client.post(call, content=PICTURE)
    pairs = [entry.split(";dur=") for entry in response.headers["server-timing"].split(", ")]
    timings = {stage: float(milliseconds) for stage, milliseconds in pairs}
    drawn = {"render"} if "gradcam" in call else set()
    assert set(timings) == {"decode", "queue", "inference", "total"} | drawn
    assert all(spent >= 0 for spent in timings.values())
    assert sum(timings.values()) <= 2 * timings["total"] + 0.1


def test_each_request_is_one_json_line_in_the_log(server: Server) -> None:
    server.client.post("/gradcam", content=PICTURE, headers={"x-request-id": "line-1"})
    line = find_line(server, "line-1")
    assert line["level"] == "info"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["time"])
    assert (line["method"], line["route"], line["status"]) == ("POST", "/gradcam", 200)
    assert (line["model"], line["version"], line["bytes"]) == ("quadrants", "1", len(PICTURE))
    stages = ("decode_ms", "queue_ms", "inference_ms", "render_ms", "total_ms")
    assert all(line[stage] >= 0 for stage in stages)


def test_a_rejection_is_one_line_with_its_code(server: Server) -> None:
    server.client.post("/predict", content=b"no picture", headers={"x-request-id": "line-2"})
    line = find_line(server, "line-2")
    assert (line["status"], line["code"]) == (415, "unsupported_media_type")


def test_the_log_names_routes_not_paths(server: Server) -> None:
    for path, name in (("/nowhere/secret", "line-3"), ("/models/secret", "line-4")):
        server.client.get(path, headers={"x-request-id": name})
        assert "secret" not in json.dumps(find_line(server, name))


def test_requests_are_counted_by_route_and_status(server: Server) -> None:
    labels = {"route": "/predict", "status": "200"}
    counted = read_metric(server, "sightglass_requests_total", **labels)
    timed = read_metric(server, "sightglass_request_seconds_count", route="/predict")
    for _ in range(3):
        server.client.post("/predict", content=PICTURE)
    assert read_metric(server, "sightglass_requests_total", **labels) == counted + 3
    assert read_metric(server, "sightglass_request_seconds_count", route="/predict") == timed + 3


@pytest.mark.parametrize("stage", ["decode", "queue", "inference", "render"])
def test_each_stage_is_timed(server: Server, stage: str) -> None:
    timed = read_metric(server, "sightglass_stage_seconds_count", stage=stage)
    server.client.post("/gradcam", content=PICTURE)
    assert read_metric(server, "sightglass_stage_seconds_count", stage=stage) == timed + 1


def test_batches_are_measured_by_their_rows(server: Server) -> None:
    rows = read_metric(server, "sightglass_batch_size_sum", model="quadrants")
    server.client.post("/predict/batch", files=[("image", PICTURE)] * 5)
    assert read_metric(server, "sightglass_batch_size_sum", model="quadrants") == rows + 5


def test_rejections_are_counted_by_code(server: Server) -> None:
    code = "unsupported_media_type"
    counted = read_metric(server, "sightglass_rejected_total", code=code)
    server.client.post("/predict", content=b"no picture")
    assert read_metric(server, "sightglass_rejected_total", code=code) == counted + 1


def test_maps_and_empty_maps_are_counted(server: Server) -> None:
    def count() -> list[float]:
        names = ("sightglass_maps_total", "sightglass_empty_maps_total")
        return [read_metric(server, name, model="quadrants") for name in names]

    maps, empty = count()
    for headers in ({}, {"accept": "application/json"}):
        server.client.post("/gradcam?target_index=3", content=PICTURE, headers=headers)
        server.client.post("/gradcam?target_index=0", content=PICTURE, headers=headers)
    assert count() == [maps + 4, empty + 2]


def test_a_metric_has_state_and_provider_of_each_model(server: Server) -> None:
    labels = {"model": "quadrants", "version": "1", "state": "ready", "provider": "cpu"}
    assert read_metric(server, "sightglass_model_info", **labels) == 1


def test_an_idle_server_holds_no_images_and_no_bytes(server: Server) -> None:
    assert read_metric(server, "sightglass_queue_images") == 0
    assert read_metric(server, "sightglass_inflight_bytes") == 0


def test_client_input_creates_no_new_series(server: Server) -> None:
    def count_series() -> int:
        return len(server.client.get("/metrics").text.splitlines())

    def scan(number: int) -> None:
        server.client.get(f"/scan-{number}")
        server.client.get(f"/models/scan-{number}")
        server.client.get(f"/page/scan-{number}")
        server.client.post(f"/predict?model=scan-{number}", content=PICTURE)
        server.client.request(f"SCAN{number}", "/predict")

    scan(0)
    count_series()  # this request has its own series
    series = count_series()
    for number in range(1, 10):
        scan(number)
    assert count_series() == series
    assert "scan" not in server.client.get("/metrics").text


def test_metrics_are_summed_over_the_workers(pair: Server) -> None:
    def count() -> float:
        labels = {"route": "/predict", "status": "200"}
        return read_metric(pair, "sightglass_requests_total", **labels)

    before = count()
    sent = ask_both(pair)
    wait_until(lambda: count() == before + sent)  # a worker counts after it has sent its answer


def test_each_worker_reports_the_queue_of_all_workers(pair: Server) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(12):  # each worker gets more than one
            start_post(stack.enter_context(connect(pair)), "/predict", len(PICTURE))
        wait_until(lambda: read_metric(pair, "sightglass_queue_images") == 12)
    wait_until(lambda: read_metric(pair, "sightglass_queue_images") == 0)
