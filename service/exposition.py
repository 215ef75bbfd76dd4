"""What Prometheus is shown: the metrics of all workers, and the state of the models."""

import asyncio
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.admission import Admission
from service.metrics import INFLIGHT_BYTES, MULTIPROCESS, QUEUE_LENGTH
from service.repository import Repository

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
    return page + generate_latest(models), CONTENT_TYPE_LATEST
