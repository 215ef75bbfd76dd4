"""The metrics page for Prometheus: the sum of all workers, and the state of the models."""

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
from service.telemetry.metrics import INFLIGHT_BYTES, QUEUE_LENGTH
from service.telemetry.shared import SHARING, report_no_room

GAUGE_SECONDS = 0.5


def set_gauges(admission: Admission) -> None:
    """Set the gauges that say how full the queue of this worker is."""
    QUEUE_LENGTH.set(admission.images)
    INFLIGHT_BYTES.set(admission.bytes)


async def keep_gauges(admission: Admission) -> None:
    """Set them regularly, because Prometheus may ask another worker for the sum."""
    if SHARING.problem:
        report_no_room(SHARING.problem)  # it was found before there was a log
    while True:
        set_gauges(admission)
        await asyncio.sleep(GAUGE_SECONDS)


class SharingInfo(Collector):
    """Whether the sums are complete, as far as the worker that answers knows."""

    def collect(self) -> Iterator[Metric]:
        """Return what `/metrics` shows of the metrics themselves."""
        yield GaugeMetricFamily(
            "sightglass_metrics_complete",
            "0 if the disk has no room for all metrics of the worker that answers",
            value=int(SHARING.problem is None),
        )


class ModelInfo(Collector):
    """One line per version: state and provider, read from the repository on each scrape."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def collect(self) -> Iterator[Metric]:
        """Return what `/metrics` shows of the models."""
        labels = ("model", "version", "state", "provider")
        info = GaugeMetricFamily("sightglass_model_info", "1 for each version", labels=labels)
        for name in self._repository.names():
            for version in self._repository.describe(name)["versions"]:
                values = (name, version["version"], version["state"], version["provider"] or "")
                info.add_metric(values, 1)
        yield info


class AttentionMetrics(Collector):
    """How much of the maps lies at the border, read from the sums of all workers on each scrape."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    def collect(self) -> Iterator[Metric]:
        """Return what `/metrics` shows of where the models look."""
        labels = ("model", "version")
        shares = HistogramMetricFamily(
            "sightglass_attention_border_share",
            "Share of a map within 10 % of the border",
            labels=labels,
        )
        maps = CounterMetricFamily(
            "sightglass_attention_maps", "Maps that were counted; empty maps are not", labels=labels
        )
        reference = GaugeMetricFamily(
            "sightglass_attention_reference_border_share",
            "Mean border share of the maps at the export",
            labels=labels,
        )
        for model in self._repository.loaded():
            values = (model.name, model.version)
            buckets, sums = model.attention.total()
            counts = zip((*map(str, SHARES[:-1]), "+Inf"), buckets.cumsum().tolist(), strict=True)
            shares.add_metric(values, list(counts), sums[:, BORDER_SHARE].sum())
            maps.add_metric(values, sums[:, MAPS].sum())
            expected = model.attention.reference
            if expected and expected.border_share is not None:
                reference.add_metric(values, expected.border_share)
        yield from (shares, maps, reference)


def render_metrics(repository: Repository) -> tuple[bytes, str]:
    """Return the page and its media type: the sum of all workers that share their metrics.

    A worker that has no room to share them shows only its own.
    """
    registry = CollectorRegistry()
    if SHARING.slot is not None:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        page = generate_latest(registry)
    else:
        page = generate_latest(REGISTRY)
    models = CollectorRegistry()
    models.register(SharingInfo())
    models.register(ModelInfo(repository))
    models.register(AttentionMetrics(repository))
    return page + generate_latest(models), CONTENT_TYPE_LATEST
