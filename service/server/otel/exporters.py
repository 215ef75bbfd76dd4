"""Makes the exporters of traces and metrics that OpenTelemetry's environment variables ask for.

OpenTelemetry is imported only if they ask for one. This module knows nothing of requests.
"""

from collections.abc import Callable
from dataclasses import dataclass
from os import environ
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from service.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

PROTOCOL = "http/protobuf"
OWN_SESSION = "OTEL_PYTHON_EXPORTER_OTLP_HTTP_{}CREDENTIAL_PROVIDER"  # the operator's, not ours


@dataclass(frozen=True)
class Signal:
    """What can be exported: its name in the variables, and how its exporters are made."""

    name: str
    make_otlp: Callable[[Any], Any]
    make_console: Callable[[], Any]

    @property
    def choice(self) -> str:
        """The variable that names the exporters."""
        return f"OTEL_{self.name}_EXPORTER"

    def list_variables(self, what: str) -> tuple[str, str]:
        """The variable of this signal, then the one of all signals."""
        return f"OTEL_EXPORTER_OTLP_{self.name}_{what}", f"OTEL_EXPORTER_OTLP_{what}"


class Exporters(NamedTuple):
    """The exporters of each signal."""

    spans: "list[SpanExporter]"
    metrics: "list[MetricExporter]"


def make_exporters() -> Exporters:
    """Make the exporters that the environment asks for.

    Raises:
        SettingsError: An exporter is unknown or not installed, or its endpoint is not valid.
    """
    return Exporters(_make(SPANS), _make(METRICS))


def _make(signal: Signal) -> list[Any]:
    if _read("OTEL_SDK_DISABLED").lower() == "true":
        return []
    endpoint = _read(*signal.list_variables("ENDPOINT"))
    wanted = _read(signal.choice) or ("otlp" if endpoint else "none")
    exporters = []
    for name in (name.strip() for name in wanted.split(",")):
        if name == "otlp":
            _check_otlp(signal, endpoint)
            exporters.append(_make_otlp(signal))
        elif name == "console":
            exporters.append(signal.make_console())
        elif name != "none":
            raise SettingsError(f"{signal.choice} must be otlp, console or none, got '{wanted}'.")
    return exporters


def _check_otlp(signal: Signal, endpoint: str) -> None:
    protocols = signal.list_variables("PROTOCOL")
    if endpoint and not _is_url(endpoint):
        name = signal.list_variables("ENDPOINT")[1]
        raise SettingsError(
            f"{name} must be a URL such as http://collector:4318, got '{endpoint}'."
        )
    if (protocol := _read(*protocols)) not in ("", PROTOCOL):
        raise SettingsError(f"{protocols[1]} must be {PROTOCOL}, got '{protocol}'.")


def _make_otlp(signal: Signal) -> Any:
    try:
        own = _read(OWN_SESSION.format(f"{signal.name}_"), OWN_SESSION.format(""))
        return signal.make_otlp(None if own else _make_session())
    except ImportError:
        raise SettingsError(
            "The exporter for OpenTelemetry is not installed: run 'pip install "
            f"opentelemetry-exporter-otlp-proto-http', or set {signal.choice}=none."
        ) from None


def _make_session() -> Any:
    from service.server.otel.collector import make_session

    return make_session()


def _make_otlp_spans(session: Any) -> "SpanExporter":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(session=session)


def _make_console_spans() -> "SpanExporter":
    from opentelemetry.sdk.trace.export import ConsoleSpanExporter

    return ConsoleSpanExporter(formatter=lambda span: f"{span.to_json(indent=None)}\n")


def _make_otlp_metrics(session: Any) -> "MetricExporter":
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(session=session)


def _make_console_metrics() -> "MetricExporter":
    from opentelemetry.sdk.metrics.export import ConsoleMetricExporter

    return ConsoleMetricExporter(formatter=lambda metrics: f"{metrics.to_json(indent=None)}\n")


SPANS = Signal("TRACES", _make_otlp_spans, _make_console_spans)
METRICS = Signal("METRICS", _make_otlp_metrics, _make_console_metrics)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # the port is not a number
        return False


def _read(*names: str) -> str:
    """Return the value of the first variable that is set and not empty."""
    return next((value for name in names if (value := environ.get(name, "").strip())), "")
