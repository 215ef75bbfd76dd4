"""The metrics page for Prometheus: the sum of all workers, and the state of the models."""

import asyncio
import platform
from collections.abc import Iterator, Sequence

import onnxruntime
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service import __version__
from service.inference.admission import Admission
from service.repository.attention import BORDER_SHARE, MAPS, SHARES
from service.repository.model import ListedModel, Model
from service.runtime.openvino import find_version
from service.schemas import EngineEntry
from service.telemetry.metrics import INFLIGHT_BYTES, QUEUE_LENGTH
from service.telemetry.shared import SHARING, report_no_room

GAUGE_SECONDS = 0.5


def set_gauges(admission: Admission) -> None:
    """Set the gauges that say how full the queue of this worker is."""
    QUEUE_LENGTH.set(admission.images + len(admission.arriving))
    INFLIGHT_BYTES.set(admission.memory.bytes)


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


class BuildInfo(Collector):
    """What answers: its version, and the versions of what computes."""

    def collect(self) -> Iterator[Metric]:
        """Return what `/metrics` shows of the program."""
        versions = {
            "version": __version__,
            "python": platform.python_version(),
            "onnxruntime": onnxruntime.__version__,
            "openvino": find_version() or "",
        }
        info = GaugeMetricFamily(
            "sightglass_build_info", "1, with the versions as labels", labels=list(versions)
        )
        info.add_metric(list(versions.values()), 1)
        yield info


NO_ENGINE: EngineEntry = {"name": "", "precision": "", "speedup": None, "reason": None}


class ModelInfo(Collector):
    """One line per version: state, provider and engine, and how much faster one engine was."""

    def __init__(self, models: Sequence[ListedModel]) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        """Return what `/metrics` shows of the models."""
        labels = ("model", "version", "state", "provider", "engine", "precision")
        info = GaugeMetricFamily("sightglass_model_info", "1 for each version", labels=labels)
        speedup = GaugeMetricFamily(
            "sightglass_model_openvino_speedup",
            "Speed of OpenVINO over that of onnxruntime, where both were measured",
            labels=labels[:2],
        )
        for model in self._models:
            for version in model["versions"]:
                place = (model["name"], version["version"])
                engine = version["engine"] or NO_ENGINE
                states = (version["state"], version["provider"] or "")
                info.add_metric((*place, *states, engine["name"], engine["precision"]), 1)
                if engine["speedup"] is not None:
                    speedup.add_metric(place, engine["speedup"])
        yield info
        yield speedup


class AttentionMetrics(Collector):
    """How much of the maps lies at the border, read from the sums of all workers on each scrape."""

    def __init__(self, loaded: Sequence[Model]) -> None:
        self._loaded = loaded

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
        for model in self._loaded:
            values = (model.name, model.version)
            buckets, sums = model.attention.total()
            counts = zip((*map(str, SHARES[:-1]), "+Inf"), buckets.cumsum().tolist(), strict=True)
            shares.add_metric(values, list(counts), sums[:, BORDER_SHARE].sum())
            maps.add_metric(values, sums[:, MAPS].sum())
            expected = model.attention.reference
            if expected and expected.border_share is not None:
                reference.add_metric(values, expected.border_share)
        yield from (shares, maps, reference)


def render_metrics(models: Sequence[ListedModel], loaded: Sequence[Model]) -> bytes:
    """Return the page, of type `CONTENT_TYPE_LATEST`: the sum of all workers that share metrics.

    A worker that has no room to share them shows only its own. This takes milliseconds.
    """
    registry = CollectorRegistry()
    if SHARING.slot is not None:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        page = generate_latest(registry)
    else:
        page = generate_latest(REGISTRY)
    ours = CollectorRegistry()
    ours.register(BuildInfo())
    ours.register(SharingInfo())
    ours.register(ModelInfo(models))
    ours.register(AttentionMetrics(loaded))
    return page + generate_latest(ours)
