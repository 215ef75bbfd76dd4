"""Traces and metrics that a collector receives, failing collectors, and no imports without them."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from service import __version__
from service.server.otel.collector import MAX_ANSWER_BYTES, make_session
from service.server.otel.exporters import make_exporters
from service.server.otel.measurements import BUCKETS
from service.settings import SettingsError
from tests.contract.collector import Collector, collect, read
from tests.contract.tree import PICTURE
from tests.server import ROOT, Server, find_free_port, start_server
from tests.warm_process import start_worker

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
SOON = "50"  # ms before spans are sent
LATER = "600000"
UNTRACED = """
import service.__main__, service.server.dispatcher, service.api.v2.endpoints, sys
from service.server.otel.recorder import open_recorder
assert open_recorder() is None
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set these variables of OpenTelemetry, and remove all others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """The collector that receives the spans of `traced`."""
    with collect() as running:
        yield running


@pytest.fixture(scope="module")
def traced(
    collector: Collector, quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that sends traces and has a model that fails to load."""
    folder = tmp_path_factory.mktemp("traced")
    shutil.copytree(quadrants_dir, folder / "models")
    (folder / "models" / "unfit" / "1").mkdir(parents=True)
    (folder / "models" / "unfit" / "1" / "model.onnx").write_bytes(b"no model")
    settings = {"max_batch_size": 2, "default_model": "quadrants"}
    variables = {
        ENDPOINT: collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": SOON,
        "OTEL_METRIC_EXPORT_INTERVAL": SOON,
    }
    with (
        environment(**variables),
        start_worker(folder / "models", folder, **settings) as running,
    ):
        running.wait_ready()
        yield running


def measure(span: Span) -> float:
    """Return the span's duration in milliseconds."""
    return float(span.end_time_unix_nano - span.start_time_unix_nano) / 1e6


def read_timings(server_timing: str) -> dict[str, float]:
    """Return the milliseconds of each stage."""
    pairs = [entry.split(";dur=") for entry in server_timing.split(", ")]
    return {stage: float(milliseconds) for stage, milliseconds in pairs}


def test_a_request_is_a_span_with_its_stages_as_child_spans(
    collector: Collector, traced: Server
) -> None:
    headers = {
        "x-request-id": "heat",
        "traceparent": f"00-{TRACE}-{PARENT}-01",
        "user-agent": "stock/1",
    }
    answer = traced.client.post("/gradcam", content=PICTURE, headers=headers)
    span, stages = collector.find("heat")
    assert (span.name, span.kind) == ("POST /gradcam", Span.SPAN_KIND_SERVER)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert read(span) == {
        "http.request.method": "POST",
        "http.route": "/gradcam",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "url.path": "/gradcam",
        "network.protocol.version": "1.1",
        "server.address": "127.0.0.1",
        "server.port": traced.client.base_url.port,
        "user_agent.original": "stock/1",
        "sightglass.request_id": "heat",
        "sightglass.model": "quadrants",
        "sightglass.version": "1",
        "sightglass.bytes": len(PICTURE),
    }
    assert [stage.name for stage in stages] == ["decode", "queue", "inference", "render"]
    assert read(stages[2]) == {"sightglass.batch_size": 1}
    assert {stage.trace_id for stage in stages} == {span.trace_id}
    edges = [span.start_time_unix_nano]
    for stage in stages:
        edges += [stage.start_time_unix_nano, stage.end_time_unix_nano]
    assert edges == sorted(edges)  # the stages do not overlap
    assert edges[-1] <= span.end_time_unix_nano
    timings = read_timings(answer.headers["server-timing"])
    total = timings.pop("total")
    assert timings == pytest.approx({stage.name: measure(stage) for stage in stages}, abs=0.002)
    assert measure(span) >= total - 0.002


def test_only_our_spans_are_sent_under_our_service_name(
    collector: Collector, traced: Server
) -> None:
    traced.client.get("/models", headers={"x-request-id": "models"})
    collector.find("models")
    resources = [resource for call in collector.received for resource in call.resource_spans]
    described = [read(list(r.resource.attributes)) for r in resources]
    assert {a["service.name"] for a in described} == {"sightglass"}
    assert {a["service.version"] for a in described} == {__version__}
    assert len({a["service.instance.id"] for a in described}) == 1
    assert {s.scope.name for r in resources for s in r.scope_spans} == {"sightglass"}


def test_each_image_of_a_batch_has_its_stages(collector: Collector, traced: Server) -> None:
    files = [("image", PICTURE)] * 4
    answer = traced.client.post("/predict/batch", files=files, headers={"x-request-id": "four"})
    span, stages = collector.find("four")
    assert read(span)["sightglass.images"] == 4
    timings = read_timings(answer.headers["server-timing"])
    for name in ("decode", "queue", "inference"):
        spent = [measure(stage) for stage in stages if stage.name == name]
        assert len(spent) == 4
        assert max(spent) == pytest.approx(timings[name], abs=0.002)


def test_waiting_before_decoding_counts_as_time_in_the_queue(
    collector: Collector, traced: Server
) -> None:
    files = [("image", PICTURE)] * 12  # eight more than are prepared at once
    answer = traced.client.post("/predict/batch", files=files, headers={"x-request-id": "twelve"})
    _, stages = collector.find("twelve")
    assert [stage.name for stage in stages].count("decode") == 12
    waits = [measure(stage) for stage in stages if stage.name == "queue"]
    assert len(waits) == 20
    timings = read_timings(answer.headers["server-timing"])["queue"]
    assert max(waits) <= timings + 0.002
    sizes = {read(stage)["sightglass.batch_size"] for stage in stages if stage.name == "inference"}
    assert sizes == {2}


@pytest.mark.parametrize(
    "traceparent",
    [None, "", "nonsense", f"00-{TRACE}", f"00-{'0' * 32}-{PARENT}-01", f"ff-{TRACE}-{PARENT}-01"],
)
def test_without_a_valid_parent_a_new_trace_starts(
    collector: Collector, traced: Server, traceparent: str | None
) -> None:
    headers = {"traceparent": traceparent} if traceparent is not None else {}
    answer = traced.client.get("/models", headers=headers)
    span, stages = collector.find(answer.headers["x-request-id"])
    assert not span.parent_span_id
    assert span.trace_id.hex() != TRACE
    assert stages == []


def test_spans_that_the_client_does_not_sample_are_not_sent(
    collector: Collector, traced: Server
) -> None:
    for flags, name in (("00", "unsampled"), ("01", "sampled")):
        headers = {"traceparent": f"00-{TRACE}-{PARENT}-{flags}", "x-request-id": name}
        traced.client.post("/predict", content=PICTURE, headers=headers)
    collector.find("sampled")
    assert "unsampled" not in {
        read(span).get("sightglass.request_id") for span in collector.spans()
    }


def test_a_rejection_has_its_code_but_not_its_path(collector: Collector, traced: Server) -> None:
    traced.client.post("/predict", content=b"no picture", headers={"x-request-id": "refused"})
    span, stages = collector.find("refused")
    assert read(span)["http.response.status_code"] == 415
    assert read(span)["sightglass.code"] == "unsupported_media_type"
    assert "error.type" not in read(span)
    assert span.status.code == Status.STATUS_CODE_UNSET  # not an error of the server
    assert stages == []
    traced.client.get("/secret", headers={"x-request-id": "nowhere"})
    span, _ = collector.find("nowhere")
    assert span.name == "GET"
    assert not {"http.route", "url.path", "url.query"} & set(read(span))
    assert "secret" not in str(collector.received)


def test_an_error_of_the_server_is_an_error_in_the_span(
    collector: Collector, traced: Server
) -> None:
    url, headers = "/predict?model=unfit", {"x-request-id": "owed"}
    assert traced.client.post(url, content=PICTURE, headers=headers).status_code == 503
    span, _ = collector.find("owed")
    assert read(span)["error.type"] == "not_ready"
    assert span.status.code == Status.STATUS_CODE_ERROR


def test_a_method_of_no_http_standard_is_named_other(collector: Collector, traced: Server) -> None:
    traced.client.request("PROPFIND", "/models", headers={"x-request-id": "dav"})
    span, _ = collector.find("dav")
    assert span.name == "HTTP /models"
    assert read(span)["http.request.method"] == "_OTHER"
    assert read(span)["http.request.method_original"] == "PROPFIND"


def test_a_host_that_is_no_name_leaves_the_server_out(collector: Collector, traced: Server) -> None:
    answer = traced.client.get("/models", headers={"host": "here:there"})
    assert answer.status_code == 400
    span, _ = collector.find(answer.headers["x-request-id"])
    assert not {"server.address", "server.port"} & set(read(span))


def test_durations_are_measured_as_the_semantic_conventions_say(
    collector: Collector, traced: Server
) -> None:
    for _ in range(3):
        traced.client.post("/predict?top_k=1", content=PICTURE)
    traced.client.post("/predict?model=unfit", content=PICTURE)
    wanted = {"http.route": "/predict", "http.request.method": "POST"}
    point = collector.find_measured(wanted | {"http.response.status_code": 200}, at_least=3)
    assert read(list(point.attributes)) == wanted | {
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
    }
    assert tuple(point.explicit_bounds) == BUCKETS
    assert point.count == sum(point.bucket_counts)
    assert 0 < point.sum < 60
    failed = collector.find_measured(wanted | {"http.response.status_code": 503}, at_least=1)
    assert read(list(failed.attributes))["error.type"] == "not_ready"
    [(name, unit)] = {(metric.name, metric.unit) for metric in collector.metrics()}
    assert (name, unit) == ("http.server.request.duration", "s")
    assert (
        'sightglass_requests_total{route="/predict",status="200"}'
        in traced.client.get("/metrics").text
    )


@pytest.mark.slow
def test_a_stopping_server_sends_the_remaining_spans(quadrants_dir: Path, tmp_path: Path) -> None:
    variables = {"OTEL_TRACES_EXPORTER": "otlp,console", "OTEL_SERVICE_NAME": "other"}
    variables["OTEL_METRIC_EXPORT_INTERVAL"] = LATER
    with (
        collect() as own,
        environment(**variables, **{ENDPOINT: own.url, "OTEL_BSP_SCHEDULE_DELAY": LATER}),
        start_server(quadrants_dir, tmp_path, drain_seconds=0) as server,
    ):
        server.wait_ready()
        server.client.post("/predict", content=PICTURE, headers={"x-request-id": "last"})
        assert own.received == []
        assert server.stop() == 0
        own.find("last")
        own.find_measured({"http.route": "/predict"}, at_least=1)
        [resource, *_] = own.received[0].resource_spans
        assert read(list(resource.resource.attributes))["service.name"] == "other"
        shown = {event["name"] for event in server.read_events() if "context" in event}
        assert {"POST /predict", "decode", "queue", "inference"} <= shown


@pytest.mark.slow
def test_a_dead_collector_neither_fails_requests_nor_holds_the_stop(
    quadrants_dir: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, answers nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = {ENDPOINT: url, "OTEL_EXPORTER_OTLP_TIMEOUT": "300"}
        few = {"OTEL_BSP_SCHEDULE_DELAY": SOON, "OTEL_BSP_MAX_QUEUE_SIZE": "8"}
        with (
            environment(**variables, **few, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="4"),
            start_server(quadrants_dir, tmp_path, drain_seconds=0) as server,
        ):
            server.wait_ready()
            statuses = {
                server.client.post("/predict", content=PICTURE).status_code for _ in range(20)
            }
            assert statuses == {200}
            server.process.terminate()
            assert server.process.wait(30) == 0  # longer than it waits for a collector


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "", "OTEL_METRICS_EXPORTER": "", ENDPOINT: ""},
        {
            "OTEL_TRACES_EXPORTER": "none",
            "OTEL_METRICS_EXPORTER": "none",
            ENDPOINT: "http://collector:4318",
        },
        {"OTEL_SDK_DISABLED": "TRUE", ENDPOINT: "http://collector:4318"},
    ],
    ids=["unset", "empty", "none", "disabled"],
)
def test_without_exporters_opentelemetry_is_not_imported(variables: dict[str, str]) -> None:
    with environment(**variables):
        command = [sys.executable, "-c", UNTRACED]
        subprocess.run(command, cwd=ROOT, check=True, timeout=60)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *[(ENDPOINT, bad) for bad in ("collector:4318", "http://", "http://a:port", "grpc://a:1")],
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        ("OTEL_TRACES_EXPORTER", "console,jaeger"),
        ("OTEL_METRICS_EXPORTER", "prometheus"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector"),
    ],
)
def test_an_invalid_variable_gives_one_sentence(variable: str, value: str) -> None:
    with environment(**{variable: value}), pytest.raises(SettingsError) as error:
        make_exporters()
    assert value in str(error.value)
    assert " must be " in str(error.value)
    assert "\n" not in str(error.value)


def test_protocols_other_than_http_are_rejected() -> None:
    variables = {ENDPOINT: "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with (
        environment(**variables),
        pytest.raises(SettingsError, match="must be http/protobuf, got 'grpc'"),
    ):
        make_exporters()


@pytest.mark.parametrize(
    ("signal", "module"), [("TRACES", "trace_exporter"), ("METRICS", "metric_exporter")]
)
def test_one_signal_alone_can_be_asked_for(signal: str, module: str) -> None:
    with environment(**{f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": "http://collector:4318/here"}):
        made = make_exporters()
    made_of = [type(exporter).__module__ for exporters in made for exporter in exporters]
    assert len(made_of) == 1
    assert module in made_of[0]


def test_an_exporter_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    package = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
    monkeypatch.setitem(sys.modules, package, None)
    with (
        environment(**{ENDPOINT: "http://collector:4318"}),
        pytest.raises(SettingsError, match="pip install opentelemetry-exporter-otlp-proto-http"),
    ):
        make_exporters()


def test_an_invalid_endpoint_stops_the_start_with_that_sentence() -> None:
    with environment(**{ENDPOINT: "collector:4318"}):
        command = [sys.executable, "-m", "service", "serve", "--port", str(find_free_port())]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stderr == (
        "OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as http://collector:4318, "
        "got 'collector:4318'.\n"
    )


def test_of_a_collector_s_answer_only_the_beginning_is_read() -> None:
    sent = 0

    class Endless(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal sent
            self.send_response(400)
            self.end_headers()
            with contextlib.suppress(OSError):
                while sent < 1000 * MAX_ANSWER_BYTES:
                    sent += self.wfile.write(bytes(MAX_ANSWER_BYTES))

        def log_message(self, *_: object) -> None:
            pass

    with (
        ThreadingHTTPServer(("127.0.0.1", 0), Endless) as listener,
        contextlib.closing(make_session()) as session,
    ):
        Thread(target=listener.serve_forever, daemon=True).start()
        answer = session.post(f"http://127.0.0.1:{listener.server_port}", b"spans", timeout=10)
        assert len(answer.content) == MAX_ANSWER_BYTES
        assert (answer.status_code, answer.ok) == (400, False)
        listener.shutdown()
    assert sent < 1000 * MAX_ANSWER_BYTES
