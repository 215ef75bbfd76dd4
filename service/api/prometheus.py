"""What Prometheus is shown: the metrics of all workers, and the state of the models."""

import asyncio
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.inference.admission import Admission
from service.repository.attention import BORDER_SHARE, MAPS, SHARES
from service.repository.repository import Repository
from service.telemetry.metrics import INFLIGHT_BYTES, MULTIPROCESS, QUEUE_LENGTH

GAUGE_SECONDS = 0.5


def set_gauges(admission: Admission) -> None:
    """Note how full this worker's house is."""
    QUEUE_LENGTH.set(admission.images)
    INFLIGHT_BYTES.set(admission.bytes)


async def keep_gauges(admission: Admission) -> None:
    """Note it again and again: another worker may be the one that is asked for the sum."""
    while True:
        set_gauges(admission)
        await asyncio.sleep(GAUGE_SECONDS)


class ModelInfo(Collector):
    """One line a version: state and provider, read off the repository when asked."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def collect(self) -> Iterator[Metric]:
        """What `/metrics` shows of the models."""
        labels = ("model", "version", "state", "provider")
        info = GaugeMetricFamily("sightglass_model_info", "1 for each version", labels=labels)
        for name in self._repository.names():
            for version in self._repository.describe(name)["versions"]:
                told = (version["version"], version["state"], version["provider"] or "")
                info.add_metric((name, *told), 1)
        yield info


class AttentionMetrics(Collector):
    """How much heat lies at the pictures' borders, read off the sums of all workers when asked."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def collect(self) -> Iterator[Metric]:
        """What `/metrics` shows of where the models look."""
        labels = ("model", "version")
        shares = HistogramMetricFamily(
            "sightglass_attention_border_share",
            "Share of a map's heat within 10 % of the border",
            labels=labels,
        )
        maps = CounterMetricFamily(
            "sightglass_attention_maps", "Maps watched, empty ones left out", labels=labels
        )
        reference = GaugeMetricFamily(
            "sightglass_attention_reference_border_share",
            "Mean border share of the maps that the exporter saw",
            labels=labels,
        )
        for model in self._repository.loaded():
            told = (model.name, model.version)
            buckets, sums = model.attention.total()
            upto = zip((*map(str, SHARES[:-1]), "+Inf"), buckets.cumsum().tolist(), strict=True)
            shares.add_metric(told, list(upto), sums[:, BORDER_SHARE].sum())
            maps.add_metric(told, sums[:, MAPS].sum())
            trained = model.attention.reference
            if trained and trained.border_share is not None:
                reference.add_metric(told, trained.border_share)
        yield from (shares, maps, reference)


def render_metrics(repository: Repository) -> tuple[bytes, str]:
    """The page and its media type; the sum of all workers where there are several."""
    registry = CollectorRegistry()
    if MULTIPROCESS:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        page = generate_latest(registry)
    else:
        page = generate_latest(REGISTRY)
    models = CollectorRegistry()
    models.register(ModelInfo(repository))
    models.register(AttentionMetrics(repository))
    return page + generate_latest(models), CONTENT_TYPE_LATEST
