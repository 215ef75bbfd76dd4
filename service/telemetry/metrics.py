"""What is counted and timed, for Prometheus; summed over the workers.

Label values come from fixed sets (routes, codes, models), never from what a client sends.
"""

import os
from functools import cache
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, values


def find_multiprocess_folder() -> Path | None:
    """What the workers of one server write their numbers into; None for a lonely process."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")  # BentoML sets it for its workers
    return None if folder is None else Path(folder)


MULTIPROCESS = find_multiprocess_folder() is not None
if MULTIPROCESS:  # a worker never forks, so its number need not be asked for at every count
    values.ValueClass = values.MultiProcessValue(cache(os.getpid))  # type: ignore[no-untyped-call]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUESTS = Counter("sightglass_requests", "Requests by route and status", ("route", "status"))
REQUEST_SECONDS = Histogram(
    "sightglass_request_seconds", "From the headers to the answer", ("route",), buckets=SECONDS
)
STAGE_SECONDS = Histogram(
    "sightglass_stage_seconds",
    "Time in one stage of an image: decode, queue, inference (of its batch), render",
    ("stage",),
    buckets=SECONDS,
)
BATCH_SIZE = Histogram(
    "sightglass_batch_size", "Rows in a batch", ("model",), buckets=(1, 2, 4, 8, 16, 32, 64, 128)
)
QUEUE_LENGTH = Gauge(
    "sightglass_queue_images", "Images accepted and not answered", multiprocess_mode="livesum"
)
INFLIGHT_BYTES = Gauge(
    "sightglass_inflight_bytes", "Bodies and decoded pixels held", multiprocess_mode="livesum"
)
REJECTED = Counter("sightglass_rejected", "Requests refused, by the error's code", ("code",))
DROPPED = Counter(
    "sightglass_dropped", "Images accepted but never answered, by reason", ("reason",)
)
FAILED = Counter("sightglass_failed", "Images whose batch failed", ("model",))
MAPS = Counter("sightglass_maps", "Maps answered, empty ones among them", ("model",))
DEVICE_FAILURES = Counter(
    "sightglass_device_failures", "Times that a model had to be loaded anew", ("model",)
)
EMPTY_MAPS = Counter("sightglass_empty_maps", "Explanations without evidence for", ("model",))


@cache
def count_request(route: str, status: int) -> Counter:
    """The counter of one kind of answer; finding it anew would cost more than counting."""
    return REQUESTS.labels(route, status)


@cache
def count_refusal(code: str) -> Counter:
    """The counter of one kind of refusal."""
    return REJECTED.labels(code)


@cache
def time_request(route: str) -> Histogram:
    """The timer of one route."""
    return REQUEST_SECONDS.labels(route)


@cache
def time_stage(stage: str) -> Histogram:
    """The timer of one stage."""
    return STAGE_SECONDS.labels(stage)


def count_maps(model: str, maps: int, empty: int) -> None:
    """Count the maps of one answer, and how many of them are empty."""
    MAPS.labels(model).inc(maps)
    EMPTY_MAPS.labels(model).inc(empty)
