"""What only our own service has: explanations, batches, mixed loads; and its open loop."""

from collections.abc import Callable, Sequence
from urllib.parse import quote

from benchmarks.client import Ask, make_form, post
from benchmarks.contenders import make_our_asks
from benchmarks.material import Pictures
from benchmarks.samples import Sample
from benchmarks.trial import Trial

JSON, JPEG, PNG = "application/json", "image/jpeg", "image/png"
CLIENTS = (1, 8, 32)
MIDDLE = 8  # clients, where one number must do
BATCH = 32
BATCH_CLIENTS = 4
SHARES = (50, 80, 95)  # % of capacity
TARGETS = 5
Keep = Callable[[Sample], None]


def measure_ours(trial: Trial, pictures: Pictures, tops: Sequence[int], keep: Keep) -> None:
    """Explanations and an open loop; batches of digits, more maps of photographs."""
    predictions = make_our_asks(pictures, tops)
    for clients in CLIENTS:
        asks = make_our_asks(pictures, tops, "/gradcam", accept=JSON)
        keep(trial.load(f"{pictures.name} gradcam json", asks, clients))
    capacity = trial.load(f"{pictures.name} capacity", predictions, max(CLIENTS))
    keep(capacity)
    for share in SHARES:
        rate = capacity.figures["rps"] * share / 100
        keep(trial.pace(f"{pictures.name} paced {share} %", predictions, rate))
    rate = capacity.figures["rps"] * 0.8
    keep(trial.pace(f"{pictures.name} poisson 80 %", predictions, rate, poisson=True))
    if pictures.name == "photo":
        measure_maps(trial, pictures, tops, keep)
    else:
        keep(measure_batches(trial, pictures, tops))


def measure_maps(trial: Trial, photographs: Pictures, tops: Sequence[int], keep: Keep) -> None:
    """Predictions, maps in each form, five at once, and one in five requests a map."""
    predictions = make_our_asks(photographs, tops)
    labels = [photographs.labels[top] for top in dict.fromkeys(tops)]
    others = [label for label in photographs.labels if label not in labels]
    keep(trial.load("photo predict", predictions, MIDDLE))
    for name, accept, query in (
        ("json", JSON, ""),
        ("jpeg", JPEG, ""),
        ("png", PNG, ""),
        ("1 target", JSON, name_targets(others[:1])),
        (f"{TARGETS} targets", JSON, name_targets(others[:TARGETS])),
        (f"top {TARGETS}", JSON, f"&target_top={TARGETS}"),
    ):
        asks = make_our_asks(photographs, tops, "/gradcam", query, accept)
        keep(trial.load(f"photo {name}", asks, MIDDLE))
    for name, kind in (("json", JSON), ("png", PNG)):
        maps = make_our_asks(photographs, tops, "/gradcam", accept=kind, kind=1)
        keep(trial.load(f"photo mixed {name}", mix(predictions, maps), MIDDLE))


def name_targets(labels: Sequence[str]) -> str:
    """As parameters of a URL."""
    return "".join(f"&target={quote(label)}" for label in labels)


def mix(predictions: Sequence[Ask], maps: Sequence[Ask]) -> list[Ask]:
    """Four predictions, then a map, until all maps have had their turn."""
    mixed = []
    for number, explained in enumerate(maps):
        mixed += [predictions[(4 * number + i) % len(predictions)] for i in range(4)]
        mixed.append(explained)
    return mixed


def measure_batches(trial: Trial, digits: Pictures, tops: Sequence[int]) -> Sample:
    """Digits by `/predict/batch`."""
    asks = []
    for start in range(0, len(digits.files), BATCH):
        body, media_type = make_form("image", digits.files[start : start + BATCH])
        path = f"/predict/batch?model={digits.model}"
        needle = f'"predictions":[{{"label":"{digits.labels[tops[start]]}",'.encode()
        asks.append(Ask(post(path, body, {"Content-Type": media_type}), needle))
    return trial.load(f"digit batches of {BATCH}", asks, BATCH_CLIENTS, BATCH)
