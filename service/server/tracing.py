"""Traces for a collector: a span for each request, with a child span for each stage of its images.

OpenTelemetry is imported only if its own environment variables ask for traces. The spans are made
after the response was sent, from the same readings as Server-Timing, and a thread sends them. So a
slow or dead collector loses spans, but delays no response. This module knows nothing of images.
"""

from os import environ
from threading import Thread
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from service.http.request import Request
from service.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

SERVICE_NAME = "sightglass"  # if OTEL_SERVICE_NAME is not set
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
CLOSE_SECONDS = 3.0  # for sending the last spans when the server stops


class RequestTracer:
    """Makes spans of finished requests and gives them to `exporters`."""

    def __init__(self, exporters: "list[SpanExporter]") -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": SERVICE_NAME})
        resource = resource.merge(
            OTELResourceDetector().detect()
        )  # the name in the environment has priority
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE_NAME)
        self._propagator = TraceContextTextMapPropagator()

    def record_request(
        self, request: Request, route: str | None, status: int, code: str | None, seconds: float
    ) -> None:
        """Make the spans of a request that took `seconds`. `code` is the error code, if any."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        epoch = time_ns() - perf_counter_ns()

        def to_ns(reading: float) -> int:
            return epoch + round(reading * 1e9)

        attributes: dict[str, Any] = {
            "http.request.method": request.method,
            "http.response.status_code": status,
        }
        if route:
            attributes["http.route"] = route
        if code:
            attributes["error.type"] = code
        for name, value in {"request_id": request.id, **request.log_fields}.items():
            attributes[f"{SERVICE_NAME}.{name}"] = value
        span = self._tracer.start_span(
            f"{request.method} {route}" if route else request.method,
            self._propagator.extract({"traceparent": request.header("traceparent")}),
            SpanKind.SERVER,
            attributes,
            start_time=to_ns(request.started),
        )
        if not span.is_recording():  # not sampled
            return
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        context = set_span_in_context(span)
        for stage, started, ended, batch_size in request.timings.spans:
            size = None if batch_size is None else {f"{SERVICE_NAME}.batch_size": batch_size}
            child = self._tracer.start_span(
                stage, context, attributes=size, start_time=to_ns(started)
            )
            child.end(to_ns(ended))
        span.end(to_ns(request.started + seconds))

    def close(self) -> None:
        """Send the remaining spans, but wait only a few seconds."""
        closing = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def open_tracer() -> RequestTracer | None:
    """Return a tracer if the environment asks for traces.

    Raises:
        SettingsError: As `make_exporters` does.
    """
    exporters = make_exporters()
    return RequestTracer(exporters) if exporters else None


def make_exporters() -> "list[SpanExporter]":
    """Make the exporters that the environment asks for.

    Raises:
        SettingsError: An exporter is unknown or not installed, or its endpoint is not valid.
    """
    if _read("OTEL_SDK_DISABLED").lower() == "true":
        return []
    wanted = _read("OTEL_TRACES_EXPORTER") or ("otlp" if _read(*ENDPOINTS) else "none")
    exporters: list[SpanExporter] = []
    for name in (name.strip() for name in wanted.split(",")):
        if name == "otlp":
            exporters.append(_make_otlp())
        elif name == "console":
            exporters.append(_make_console())
        elif name != "none":
            raise SettingsError(
                f"OTEL_TRACES_EXPORTER must be otlp, console or none, got '{wanted}'."
            )
    return exporters


def _make_otlp() -> "SpanExporter":
    endpoint, protocol = _read(*ENDPOINTS), _read(*PROTOCOLS)
    if endpoint and not _is_url(endpoint):
        raise SettingsError(
            f"{ENDPOINTS[1]} must be a URL such as http://collector:4318, got '{endpoint}'."
        )
    if protocol not in ("", PROTOCOL):
        raise SettingsError(f"{PROTOCOLS[1]} must be {PROTOCOL}, got '{protocol}'.")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise SettingsError(
            "The exporter for traces is not installed: run 'pip install "
            "opentelemetry-exporter-otlp-proto-http', or set OTEL_TRACES_EXPORTER=none."
        ) from None
    return OTLPSpanExporter()


def _make_console() -> "SpanExporter":
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(formatter=lambda span: f"{span.to_json(indent=None)}\n")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        return False


def _read(*names: str) -> str:
    """Return the value of the first variable that is set and not empty."""
    return next((value for name in names if (value := environ.get(name, "").strip())), "")
