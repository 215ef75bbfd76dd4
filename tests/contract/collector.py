"""A local collector of traces and metrics. It accepts OTLP over HTTP and keeps what it gets."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import HistogramDataPoint, Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.server import wait_until


@dataclass
class Collector:
    """The spans and measurements received so far."""

    url: str = ""
    received: list[ExportTraceServiceRequest] = field(default_factory=list)
    measured: list[ExportMetricsServiceRequest] = field(default_factory=list)

    def find(self, request_id: str) -> tuple[Span, list[Span]]:
        """Wait for the span of a request. Return it and its child spans by start time."""

        def find_request() -> list[Span]:
            return [s for s in self.spans() if read(s).get("sightglass.request_id") == request_id]

        wait_until(lambda: bool(find_request()), describe=lambda: f"no span of {request_id}")
        [span] = find_request()
        children = [s for s in self.spans() if s.parent_span_id == span.span_id]
        return span, sorted(children, key=lambda child: child.start_time_unix_nano)

    def spans(self) -> list[Span]:
        """Return all spans."""
        resources = [resource for call in list(self.received) for resource in call.resource_spans]
        return [s for resource in resources for scope in resource.scope_spans for s in scope.spans]

    def find_measured(self, attributes: dict[str, str | int], at_least: int) -> HistogramDataPoint:
        """Wait for a measurement of so many requests with these attributes. Return the newest."""

        def find_points() -> list[HistogramDataPoint]:
            points = [point for metric in self.metrics() for point in metric.histogram.data_points]
            wanted = attributes.items()
            return [
                point
                for point in points
                if wanted <= read(list(point.attributes)).items() and point.count >= at_least
            ]

        wait_until(lambda: bool(find_points()), describe=lambda: f"no measurement {attributes}")
        return find_points()[-1]

    def metrics(self) -> list[Metric]:
        """Return all metrics, each as often as it came."""
        resources = [r for call in list(self.measured) for r in call.resource_metrics]
        return [m for resource in resources for s in resource.scope_metrics for m in s.metrics]


def read(attributes: Span | list[KeyValue]) -> dict[str, str | int]:
    """Return the attributes by name."""
    pairs = attributes.attributes if isinstance(attributes, Span) else attributes
    return {
        pair.key: pair.value.string_value or pair.value.int_value  # only these two kinds are sent
        for pair in pairs
    }


@contextlib.contextmanager
def collect() -> Iterator[Collector]:
    """Start a collector on a free port."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/v1/metrics":
                collector.measured.append(ExportMetricsServiceRequest.FromString(body))
            else:
                assert self.path == "/v1/traces"
                collector.received.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        collector.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, daemon=True)
        thread.start()
        yield collector
        listener.shutdown()
