"""The Prometheus metrics, summed over all workers.

Label values come from fixed sets (routes, codes, models), never from a client's request.
"""

import warnings
from collections.abc import Collection
from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from service.telemetry.shared import SHARING, find_multiprocess_folder

FOLDER = find_multiprocess_folder()
if FOLDER is not None:  # before the first metric is made
    SHARING.open(FOLDER)

LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

REQUESTS = Counter(
    "sightglass_requests", "Requests answered, by route and status", ("route", "status")
)
REQUEST_SECONDS = Histogram(
    "sightglass_request_seconds",
    "Seconds from the headers of a request to its answer",
    ("route",),
    buckets=LATENCY_BUCKETS,
)
STAGE_SECONDS = Histogram(
    "sightglass_stage_seconds",
    "Seconds of an image in one stage: decode, queue, inference (of its batch) or render",
    ("stage",),
    buckets=LATENCY_BUCKETS,
)
BATCH_SIZE = Histogram(
    "sightglass_batch_size",
    "Images in one batch",
    ("model",),
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)
QUEUE_LENGTH = Gauge(
    "sightglass_queue_images", "Images accepted but not yet answered", multiprocess_mode="livesum"
)
INFLIGHT_BYTES = Gauge(
    "sightglass_inflight_bytes",
    "Bytes of request bodies and decoded images in memory",
    multiprocess_mode="livesum",
)
REJECTED = Counter("sightglass_rejected", "Requests rejected, by error code", ("code",))
DROPPED_LINES = Counter(
    "sightglass_log_lines_dropped", "Log lines dropped because the reader of the log stalled"
)
DROPPED = Counter("sightglass_dropped", "Images accepted but not answered, by reason", ("reason",))
CLOSED = Counter(
    "sightglass_connections_closed", "Connections closed by the server, by reason", ("reason",)
)
FAILED = Counter("sightglass_failed", "Images for which the model failed", ("model",))
MAPS = Counter("sightglass_maps", "Maps computed for clients, including empty ones", ("model",))
DEVICE_FAILURES = Counter(
    "sightglass_device_failures",
    "Times that a model was loaded again because its device failed",
    ("model",),
)
EMPTY_MAPS = Counter(
    "sightglass_empty_maps",
    "Maps that are empty because there is no evidence for the target",
    ("model",),
)
WARNINGS = Counter("sightglass_warnings", "Answers with a warning, by its code", ("model", "code"))
OF_MODELS: tuple[Counter | Histogram, ...] = (
    BATCH_SIZE,
    FAILED,
    MAPS,
    DEVICE_FAILURES,
    EMPTY_MAPS,
    WARNINGS,
)


def keep_models(names: Collection[str]) -> None:
    """Remove this worker's series of all models but these."""
    for metric in OF_MODELS:
        series = {
            tuple(sample.labels[label] for label in ("model", "code") if label in sample.labels)
            for family in metric.collect()
            for sample in family.samples
        }
        for labels in series:
            if labels[0] not in names:
                with warnings.catch_warnings(action="ignore"):  # we remove it from the files
                    metric.remove(*labels)
    get_warning_counter.cache_clear()
    SHARING.keep_models(names)


@cache
def get_warning_counter(model: str, code: str) -> Counter:
    """The counter of one model and warning."""
    return WARNINGS.labels(model, code)


@cache
def get_request_counter(route: str, status: int) -> Counter:
    """The counter of one route and status. It is cached: finding it takes longer than counting."""
    return REQUESTS.labels(route, status)


@cache
def get_error_counter(code: str) -> Counter:
    """The counter of one error code."""
    return REJECTED.labels(code)


@cache
def get_request_histogram(route: str) -> Histogram:
    """The histogram of one route."""
    return REQUEST_SECONDS.labels(route)


@cache
def get_stage_histogram(stage: str) -> Histogram:
    """The histogram of one stage."""
    return STAGE_SECONDS.labels(stage)


def count_maps(model: str, maps: int, empty: int) -> None:
    """Count the maps of one answer and the empty maps among them."""
    MAPS.labels(model).inc(maps)
    EMPTY_MAPS.labels(model).inc(empty)
