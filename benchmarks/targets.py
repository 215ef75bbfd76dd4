"""The targets: ratios and differences of the measurements, and the values they must reach.

A ratio is computed within each round. Its median counts, and the spread is shown.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from benchmarks import precisions
from benchmarks.contenders import OURS
from benchmarks.samples import Results, Spread, spread

Value = dict[int, float]  # by round
Find = Callable[[Results], Value]


@dataclass(frozen=True)
class Target:
    """One line of the table."""

    what: str
    sense: Literal["≥", "≤"]
    bar: float
    unit: str  # x is a ratio
    find: Find

    def judge(self, results: Results) -> tuple[Spread, bool] | None:
        """The spread and whether its median reaches the target; None if it was not measured."""
        values = self.find(results)
        if not values:
            return None
        measured = spread(values.values())
        middle = measured.middle
        return measured, middle >= self.bar if self.sense == "≥" else middle <= self.bar


def take(results: Results, case: str, clients: int, figure: str = "rps", who: str = OURS) -> Value:
    """One figure by round."""
    return results.by_round(case, who, clients, figure)


def combine(a: Value, b: Value, how: Callable[[float, float], float]) -> Value:
    """Combine two figures in each round that has both."""
    return {number: how(a[number], b[number]) for number in a.keys() & b.keys() if b[number]}


def divide(a: Value, b: Value) -> Value:
    """a / b."""
    return combine(a, b, lambda x, y: x / y)


def subtract(a: Value, b: Value) -> Value:
    """a - b."""
    return combine(a, b, lambda x, y: x - y)


def best(results: Results, case: str, clients: int, names: Iterable[str]) -> Value:
    """The most requests per second of any of `names`, by round."""
    found: Value = {}
    for name in names:
        for number, rate in take(results, case, clients, who=name).items():
            found[number] = max(found.get(number, 0), rate)
    return found


def best_rival(results: Results, case: str, clients: int, figure: str = "rps") -> Value:
    """A figure of the other server with the most requests per second, by round."""
    rivals = [name for name in results.names(case) if is_rival(name)]
    rates = {name: take(results, case, clients, who=name) for name in rivals}
    found: Value = {}
    for number in best(results, case, clients, rivals):
        name = max(rates, key=lambda name: rates[name].get(number, 0))
        found |= {number: take(results, case, clients, figure, name)[number]}
    return found


def is_rival(name: str) -> bool:
    """Whether a name is that of another server."""
    return name != OURS and not name.startswith("bound")


def bound(results: Results, case: str) -> Value:
    """The rate of the best layout of threads without a server."""
    layouts = [name for name in results.names(case) if name.startswith("bound: together")]
    return best(results, case, 1, layouts)


def bound_latency(results: Results, case: str) -> Value:
    """Milliseconds for one picture at a time without a server, in the best layout."""
    layouts = [name for name in results.names(case) if "together batch 1, 1 workers" in name]
    return {number: 1000 / rate for number, rate in best(results, case, 1, layouts).items()}


def over_bound(clients: int) -> Find:
    """Photographs served, divided by the bound."""
    return lambda r: divide(take(r, "photo", clients), bound(r, "photo"))


def over_rivals(case: str, clients: int, rival: str = "") -> Find:
    """Our requests per second, divided by those of one rival or of the best one."""

    def find(results: Results) -> Value:
        names = [name for name in results.names(case) if rival in name]
        theirs = (
            best(results, case, clients, names) if rival else best_rival(results, case, clients)
        )
        return divide(take(results, case, clients), theirs)

    return find


def tail_over_rival(clients: int) -> Find:
    """Our p99, divided by that of the best rival."""
    return lambda r: divide(
        take(r, "photo", clients, "p99"), best_rival(r, "photo", clients, "p99")
    )


def compare_cases(case: str, other: str, figure: str = "rps") -> Find:
    """Our figure in one case, divided by that in another, for photographs at the same load."""
    return lambda r: divide(
        take(r, f"photo {case}", 8, figure), take(r, f"photo {other}", 8, figure)
    )


def added_latency(case: str) -> Find:
    """Milliseconds that a single client waits in addition to decoding and inference."""
    return lambda r: subtract(take(r, case, 1, "p50"), bound_latency(r, case))


def paced_tail(case: str) -> Find:
    """p99 of the open loop at 80 % of the capacity, divided by the idle p50."""
    return lambda r: divide(take(r, f"{case} paced 80 %", 0, "p99"), take(r, case, 1, "p50"))


def beyond_empty(case: str, clients: int, figure: str) -> Find:
    """Our figure minus that of an empty BentoML service without requests."""
    return lambda r: subtract(take(r, case, clients, figure), take(r, "start", 0, figure, "empty"))


def find_precision(results: Results, precision: str, figure: str = "rps") -> Value:
    """A figure of the file in one precision."""
    return take(results, precisions.CASE, precisions.BATCH, figure, precision)


def in_8_bits(figure: str) -> Find:
    """A loss that the card of the 8-bit file gives."""
    return lambda r: find_precision(r, "int8", figure)


TARGETS = (
    Target("500x375, 8 clients: served / bound", "≥", 0.95, "x", over_bound(8)),
    Target("500x375, 32 clients: served / bound", "≥", 0.95, "x", over_bound(32)),
    Target("500x375, 1 client, against the best other", "≥", 1.05, "x", over_rivals("photo", 1)),
    Target("500x375, 8 clients, against the best other", "≥", 1, "x", over_rivals("photo", 8)),
    Target("500x375, 32 clients, against the best other", "≥", 1, "x", over_rivals("photo", 32)),
    Target("500x375, 8 clients: p99 over the best other's", "≤", 1, "x", tail_over_rival(8)),
    Target("500x375, 32 clients: p99 over the best other's", "≤", 1, "x", tail_over_rival(32)),
    Target(
        "2000x1500, 32 clients, against the best other", "≥", 1.45, "x", over_rivals("large", 32)
    ),
    Target(
        "digits, 32 clients, against FastAPI x2",
        "≥",
        1.8,
        "x",
        over_rivals("digit", 32, "fastapi x2"),
    ),
    Target(
        "digits, 1 client, against FastAPI x2",
        "≥",
        1.25,
        "x",
        over_rivals("digit", 1, "fastapi x2"),
    ),
    Target("digits, 32 clients, against mosec", "≥", 0.6, "x", over_rivals("digit", 32, "mosec")),
    Target(
        "digits, 32 clients: server CPU a request",
        "≤",
        0.22,
        "ms",
        lambda r: take(r, "digit", 32, "server_cpu_ms"),
    ),
    Target(
        "digits by batches of 32 over mosec's single ones",
        "≥",
        1,
        "x",
        lambda r: divide(
            take(r, "digit batches of 32", 4, "images"),
            best(r, "digit", 32, [name for name in r.names("digit") if "mosec" in name]),
        ),
    ),
    Target("digit, 1 client: p50 beyond in process", "≤", 0.4, "ms", added_latency("digit")),
    Target("500x375, 1 client: p50 beyond in process", "≤", 0.4, "ms", added_latency("photo")),
    Target("gradcam / predict, JSON", "≥", 0.95, "x", compare_cases("json", "predict")),
    Target("gradcam / predict, JPEG", "≥", 0.80, "x", compare_cases("jpeg", "predict")),
    Target("gradcam / predict, PNG", "≥", 0.50, "x", compare_cases("png", "predict")),
    Target("gradcam, 5 targets / 1", "≥", 0.90, "x", compare_cases("5 targets", "1 target")),
    Target(
        "gradcam in process: ONNX / pytorch-grad-cam",
        "≥",
        3,
        "x",
        lambda r: divide(
            take(r, "explaining in process", 8, who="onnx"),
            take(r, "explaining in process", 8, who="torch"),
        ),
    ),
    Target(
        "p99 of predict among 20 % gradcam (JSON) / alone",
        "≤",
        1.25,
        "x",
        compare_cases("mixed json", "predict", "p99"),
    ),
    Target(
        "p99 of predict among 20 % gradcam (PNG) / alone",
        "≤",
        1.25,
        "x",
        compare_cases("mixed png", "predict", "p99"),
    ),
    Target(
        "ResNet-18 in 8 bits / in 32, in process",
        "≥",
        2,
        "x",
        lambda r: divide(find_precision(r, "int8"), find_precision(r, "fp32")),
    ),
    Target("… its accuracy, less that in 32 bits", "≥", -0.5, "points", in_8_bits("points")),
    Target("… its maps beside those in 32 bits, cosine", "≥", 0.97, "", in_8_bits("cosine")),
    Target("digits, open loop at 80 %: p99 / idle p50", "≤", 4, "x", paced_tail("digit")),
    Target("500x375, open loop at 80 %: p99 / idle p50", "≤", 4, "x", paced_tail("photo")),
    Target(
        "start to ready beyond an empty BentoML service's",
        "≤",
        1,
        "s",
        beyond_empty("start", 0, "seconds"),
    ),
    Target(
        "a worker's memory beyond an empty BentoML worker's",
        "≤",
        250,
        "MB",
        beyond_empty("photo", 32, "worker_mb"),
    ),
)
