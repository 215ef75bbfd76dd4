"""The targets: which ratio of what was measured must reach what, and did it.

A ratio is taken within each round; its median counts, and the spread is shown.
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
        """The measured spread and whether its median reaches the bar; None if not measured."""
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
    """Round by round, where both were measured."""
    return {number: how(a[number], b[number]) for number in a.keys() & b.keys() if b[number]}


def divide(a: Value, b: Value) -> Value:
    """a / b."""
    return combine(a, b, lambda x, y: x / y)


def subtract(a: Value, b: Value) -> Value:
    """a - b."""
    return combine(a, b, lambda x, y: x - y)


def best(results: Results, case: str, clients: int, names: Iterable[str]) -> Value:
    """The most requests a second of any of `names`, by round."""
    found: Value = {}
    for name in names:
        for number, rate in take(results, case, clients, who=name).items():
            found[number] = max(found.get(number, 0), rate)
    return found


def best_rival(results: Results, case: str, clients: int, figure: str = "rps") -> Value:
    """A figure of whoever but us has the most requests a second, by round."""
    rivals = [name for name in results.names(case) if is_rival(name)]
    rates = {name: take(results, case, clients, who=name) for name in rivals}
    found: Value = {}
    for number in best(results, case, clients, rivals):
        name = max(rates, key=lambda name: rates[name].get(number, 0))
        found |= {number: take(results, case, clients, figure, name)[number]}
    return found


def is_rival(name: str) -> bool:
    """Whether a name is another server's."""
    return name != OURS and not name.startswith("bound")


def bound(results: Results, case: str) -> Value:
    """The most that any layout of threads does in process."""
    layouts = [name for name in results.names(case) if name.startswith("bound: together")]
    return best(results, case, 1, layouts)


def bound_latency(results: Results, case: str) -> Value:
    """Milliseconds of one picture at a time in process, in the best layout for it."""
    layouts = [name for name in results.names(case) if "together batch 1, 1 workers" in name]
    return {number: 1000 / rate for number, rate in best(results, case, 1, layouts).items()}


def over_bound(clients: int) -> Find:
    """Photographs served over the bound."""
    return lambda r: divide(take(r, "photo", clients), bound(r, "photo"))


def over_rivals(case: str, clients: int, rival: str = "") -> Find:
    """Our requests a second over a rival's, or over the best one's."""

    def find(results: Results) -> Value:
        names = [name for name in results.names(case) if rival in name]
        theirs = (
            best(results, case, clients, names) if rival else best_rival(results, case, clients)
        )
        return divide(take(results, case, clients), theirs)

    return find


def tail_over_rival(clients: int) -> Find:
    """Our p99 over that of the best rival."""
    return lambda r: divide(
        take(r, "photo", clients, "p99"), best_rival(r, "photo", clients, "p99")
    )


def over_own(case: str, other: str, figure: str = "rps") -> Find:
    """A figure of ours in one case over that in another, of photographs at the same load."""
    return lambda r: divide(
        take(r, f"photo {case}", 8, figure), take(r, f"photo {other}", 8, figure)
    )


def added_latency(case: str) -> Find:
    """What one idle client waits beyond decoding and inference, in ms."""
    return lambda r: subtract(take(r, case, 1, "p50"), bound_latency(r, case))


def paced_tail(case: str) -> Find:
    """p99 of the open loop at 80 % over the idle p50."""
    return lambda r: divide(take(r, f"{case} paced 80 %", 0, "p99"), take(r, case, 1, "p50"))


def beyond_empty(case: str, clients: int, figure: str) -> Find:
    """A figure of ours less that of an empty BentoML service, started and asked for nothing."""
    return lambda r: subtract(take(r, case, clients, figure), take(r, "start", 0, figure, "empty"))


def lower(results: Results, precision: str, figure: str = "rps") -> Value:
    """A figure of the file in so many bits."""
    return take(results, precisions.CASE, precisions.BATCH, figure, precision)


def in_8_bits(figure: str) -> Find:
    """What the card of the file in 8 bits says that was lost."""
    return lambda r: lower(r, "int8", figure)


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
    Target("gradcam / predict, JSON", "≥", 0.95, "x", over_own("json", "predict")),
    Target("gradcam / predict, JPEG", "≥", 0.80, "x", over_own("jpeg", "predict")),
    Target("gradcam / predict, PNG", "≥", 0.50, "x", over_own("png", "predict")),
    Target("gradcam, 5 targets / 1", "≥", 0.90, "x", over_own("5 targets", "1 target")),
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
        over_own("mixed json", "predict", "p99"),
    ),
    Target(
        "p99 of predict among 20 % gradcam (PNG) / alone",
        "≤",
        1.25,
        "x",
        over_own("mixed png", "predict", "p99"),
    ),
    Target(
        "ResNet-18 in 8 bits / in 32, in process",
        "≥",
        2,
        "x",
        lambda r: divide(lower(r, "int8"), lower(r, "fp32")),
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
