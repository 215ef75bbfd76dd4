"""Measures finished requests for a collector: `http.server.request.duration`.

The measurements are summed in this process, and a thread sends them from time to time. Prometheus
has its own metrics. This module knows nothing of images.
"""

from typing import TYPE_CHECKING

from service.http.request import Request
from service.server.otel.attributes import Outcome, describe_measured

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.resources import Resource

INSTRUMENTATION = "sightglass"
DURATION = "http.server.request.duration"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)  # s


class RequestMeter:
    """Measures requests and gives the sums to `exporters`."""

    def __init__(self, exporters: "list[MetricExporter]", resource: "Resource") -> None:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        readers = [PeriodicExportingMetricReader(exporter) for exporter in exporters]
        self._provider = MeterProvider(readers, resource, shutdown_on_exit=False)
        meter = self._provider.get_meter(INSTRUMENTATION)
        self._duration = meter.create_histogram(
            DURATION,
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=BUCKETS,
        )

    def record_request(self, request: Request, outcome: Outcome) -> None:
        """Count a request and the time that it took."""
        self._duration.record(outcome.seconds, describe_measured(request, outcome))

    def close(self) -> None:
        """Send what was not sent yet."""
        self._provider.shutdown()
