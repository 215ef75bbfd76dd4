"""Tells collectors of finished requests, if OpenTelemetry's environment variables ask for it.

A slow or dead collector loses spans and measurements, but delays no response.
"""

from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING
from uuid import uuid4

from service import __version__
from service.http.request import Request
from service.server.otel.attributes import Outcome
from service.server.otel.exporters import Exporters, make_exporters
from service.server.otel.measurements import RequestMeter
from service.server.otel.traces import RequestTracer

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

SERVICE_NAME = "sightglass"  # if OTEL_SERVICE_NAME is not set
CLOSE_SECONDS = 3.0  # for sending the last spans and measurements when the server stops


class RequestRecorder:
    """Makes a trace and a measurement of each request, or one of the two."""

    def __init__(self, exporters: Exporters) -> None:
        resource = _describe_process()
        self._parts: list[RequestTracer | RequestMeter] = []
        if exporters.spans:
            self._parts.append(RequestTracer(exporters.spans, resource))
        if exporters.metrics:
            self._parts.append(RequestMeter(exporters.metrics, resource))

    def record_request(self, request: Request, outcome: Outcome) -> None:
        """Record a request that has ended."""
        for part in self._parts:
            part.record_request(request, outcome)

    def close(self) -> None:
        """Send what is left, but wait only a few seconds."""
        closing = [Thread(target=part.close, name="collector", daemon=True) for part in self._parts]
        for thread in closing:
            thread.start()
        end = monotonic() + CLOSE_SECONDS
        for thread in closing:
            thread.join(max(0.0, end - monotonic()))


def open_recorder() -> RequestRecorder | None:
    """Return a recorder if the environment asks for traces or metrics.

    Raises:
        SettingsError: As `make_exporters` does.
    """
    exporters = make_exporters()
    return RequestRecorder(exporters) if any(exporters) else None


def _describe_process() -> "Resource":
    """What the collector learns of this process. Each worker counts for itself under its own id."""
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource

    resource = Resource.create(
        {
            "service.name": SERVICE_NAME,
            "service.version": __version__,
            "service.instance.id": str(uuid4()),
        }
    )
    return resource.merge(OTELResourceDetector().detect())  # the environment has priority
