"""Measures what only our service offers: explanations, batches, mixed loads, an open loop."""

from collections.abc import Callable, Sequence
from urllib.parse import quote

from benchmarks.client import Request, make_form, post
from benchmarks.contenders import make_our_requests
from benchmarks.material import Pictures
from benchmarks.samples import Sample
from benchmarks.trial import Trial

JSON, JPEG, PNG = "application/json", "image/jpeg", "image/png"
CLIENTS = (1, 8, 32)
MEDIUM_CLIENTS = 8  # for measurements with a single number of clients
BATCH = 32
BATCH_CLIENTS = 4
SHARES = (50, 80, 95)  # % of capacity
RANDOM_SHARES = (50, 80)  # the same, with random gaps
BESIDE = "digit beside a ResNet-18"
TARGETS = 5
Record = Callable[[Sample], None]


def measure_ours(trial: Trial, pictures: Pictures, tops: Sequence[int], record: Record) -> None:
    """Measure explanations and an open loop, then batches of digits or more maps of photographs."""
    predictions = make_our_requests(pictures, tops)
    for clients in CLIENTS:
        requests = make_our_requests(pictures, tops, "/gradcam", accept=JSON)
        record(trial.load(f"{pictures.name} gradcam json", requests, clients))
    capacity = trial.load(f"{pictures.name} capacity", predictions, max(CLIENTS))
    record(capacity)
    for share in SHARES:
        rate = capacity.figures["rps"] * share / 100
        record(trial.pace(f"{pictures.name} paced {share} %", predictions, rate))
    for share in RANDOM_SHARES:
        rate = capacity.figures["rps"] * share / 100
        record(trial.pace(f"{pictures.name} poisson {share} %", predictions, rate, poisson=True))
    if pictures.name == "photo":
        measure_maps(trial, pictures, tops, record)
    else:
        record(measure_batches(trial, pictures, tops))


def measure_maps(trial: Trial, photographs: Pictures, tops: Sequence[int], record: Record) -> None:
    """Measure predictions, maps in each format, five maps at once, and a mix of both calls."""
    predictions = make_our_requests(photographs, tops)
    labels = [photographs.labels[top] for top in dict.fromkeys(tops)]
    others = [label for label in photographs.labels if label not in labels]
    record(trial.load("photo predict", predictions, MEDIUM_CLIENTS))
    for name, accept, query in (
        ("json", JSON, ""),
        ("jpeg", JPEG, ""),
        ("png", PNG, ""),
        ("1 target", JSON, name_targets(others[:1])),
        (f"{TARGETS} targets", JSON, name_targets(others[:TARGETS])),
        (f"top {TARGETS}", JSON, f"&target_top={TARGETS}"),
    ):
        requests = make_our_requests(photographs, tops, "/gradcam", query, accept)
        record(trial.load(f"photo {name}", requests, MEDIUM_CLIENTS))
    for name, kind in (("json", JSON), ("png", PNG)):
        maps = make_our_requests(photographs, tops, "/gradcam", accept=kind, kind=1)
        record(trial.load(f"photo mixed {name}", mix(predictions, maps), MEDIUM_CLIENTS))


def name_targets(labels: Sequence[str]) -> str:
    """The labels as URL parameters."""
    return "".join(f"&target={quote(label)}" for label in labels)


def mix(predictions: Sequence[Request], maps: Sequence[Request]) -> list[Request]:
    """Put four predictions before each map."""
    mixed = []
    for number, explained in enumerate(maps):
        mixed += [predictions[(4 * number + i) % len(predictions)] for i in range(4)]
        mixed.append(explained)
    return mixed


def measure_batches(trial: Trial, digits: Pictures, tops: Sequence[int]) -> Sample:
    """Measure digits with `/predict/batch`."""
    requests = []
    for start in range(0, len(digits.files), BATCH):
        body, media_type = make_form("image", digits.files[start : start + BATCH])
        path = f"/predict/batch?model={digits.model}"
        needle = f'"predictions":[{{"label":"{digits.labels[tops[start]]}",'.encode()
        requests.append(Request(post(path, body, {"Content-Type": media_type}), needle))
    return trial.load(f"digit batches of {BATCH}", requests, BATCH_CLIENTS, BATCH)
