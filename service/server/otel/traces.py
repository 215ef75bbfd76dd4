"""Traces for a collector: a span for each request, with a child span for each stage of its images.

The spans are made after the response was sent, from the same readings as Server-Timing, and a
thread sends them. This module knows nothing of images.
"""

from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING

from service.http.request import Request
from service.server.otel.attributes import Outcome, describe_span

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import SpanExporter

PREFIX = "sightglass"  # of attributes that are ours, and the name of the instrumentation


class RequestTracer:
    """Makes spans of finished requests and gives them to `exporters`."""

    def __init__(self, exporters: "list[SpanExporter]", resource: "Resource") -> None:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(PREFIX)
        self._propagator = TraceContextTextMapPropagator()

    def record_request(self, request: Request, outcome: Outcome) -> None:
        """Make the spans of a request."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        epoch = time_ns() - perf_counter_ns()

        def to_ns(reading: float) -> int:
            return epoch + round(reading * 1e9)

        name, attributes = describe_span(request, outcome)
        own = {"request_id": request.id, **request.log_fields}
        if outcome.code:
            own["code"] = outcome.code
        span = self._tracer.start_span(
            name,
            self._propagator.extract({"traceparent": request.header("traceparent")}),
            SpanKind.SERVER,
            attributes | {f"{PREFIX}.{key}": value for key, value in own.items()},
            start_time=to_ns(request.started),
        )
        if not span.is_recording():  # not sampled
            return
        if outcome.is_error:
            span.set_status(StatusCode.ERROR)
        context = set_span_in_context(span)
        for stage, started, ended, batch_size in request.timings.spans:
            size = None if batch_size is None else {f"{PREFIX}.batch_size": batch_size}
            child = self._tracer.start_span(
                stage, context, attributes=size, start_time=to_ns(started)
            )
            child.end(to_ns(ended))
        span.end(to_ns(request.started + outcome.seconds))

    def close(self) -> None:
        """Send the remaining spans."""
        self._provider.shutdown()
