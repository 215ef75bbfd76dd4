"""Traces for a collector: a span for each request, and within it one for each stage of its images.

Only where OpenTelemetry's own environment variables ask for it; else nothing of it is imported.
The spans are made after the answer was sent, from the readings that Server-Timing is made of, and
a thread takes them away: a collector that is slow or dead costs spans, never an answer. Knows
nothing of images.
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

SERVICE_NAME = "sightglass"  # where OTEL_SERVICE_NAME says none
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
CLOSE_SECONDS = 3.0  # that a stopping server waits for a collector to take the last spans


class RequestTracer:
    """Makes spans of answered requests and hands them to `exporters`."""

    def __init__(self, exporters: "list[SpanExporter]") -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        resource = Resource.create({"service.name": SERVICE_NAME})
        resource = resource.merge(OTELResourceDetector().detect())  # the environment's name wins
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(SERVICE_NAME)
        self._propagator = TraceContextTextMapPropagator()

    def record_request(
        self, request: Request, route: str | None, status: int, code: str | None, seconds: float
    ) -> None:
        """Make the spans of a request that took `seconds`; a refusal has a `code`."""
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
        for name, note in {"request_id": request.id, **request.log_fields}.items():
            attributes[f"{SERVICE_NAME}.{name}"] = note
        span = self._tracer.start_span(
            f"{request.method} {route}" if route else request.method,
            self._propagator.extract({"traceparent": request.header(b"traceparent")}),
            SpanKind.SERVER,
            attributes,
            start_time=to_ns(request.started),
        )
        if not span.is_recording():  # it was not sampled
            return
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        within = set_span_in_context(span)
        for stage, started, ended, batch_size in request.timings.spans:
            size = None if batch_size is None else {f"{SERVICE_NAME}.batch_size": batch_size}
            child = self._tracer.start_span(
                stage, within, attributes=size, start_time=to_ns(started)
            )
            child.end(to_ns(ended))
        span.end(to_ns(request.started + seconds))

    def close(self) -> None:
        """Send what is left, for a while."""
        closing = Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def open_tracer() -> RequestTracer | None:
    """Traces, if the environment asks for them.

    Raises:
        SettingsFault: as `make_exporters` does.
    """
    exporters = make_exporters()
    return RequestTracer(exporters) if exporters else None


def make_exporters() -> "list[SpanExporter]":
    """Those that the environment asks for.

    Raises:
        SettingsFault: an exporter that is not known or not installed, or an endpoint that can't be.
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
                f"OTEL_TRACES_EXPORTER={wanted} can't be: it should be otlp, console or none."
            )
    return exporters


def _make_otlp() -> "SpanExporter":
    endpoint, protocol = _read(*ENDPOINTS), _read(*PROTOCOLS)
    if endpoint and not _is_url(endpoint):
        raise SettingsError(
            f"Traces can't be sent to '{endpoint}': {ENDPOINTS[1]} should be a URL, as in "
            "http://collector:4318."
        )
    if protocol not in ("", PROTOCOL):
        raise SettingsError(f"{PROTOCOLS[1]}={protocol} can't be: it should be {PROTOCOL}.")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        raise SettingsError(
            "Traces can't be sent, their exporter is not installed: do it with 'pip install "
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
    except ValueError:  # of the port
        return False


def _read(*names: str) -> str:
    """The first of the variables that is set to anything."""
    return next((value for name in names if (value := environ.get(name, "").strip())), "")
