"""Ratios and differences of the measurements, each computed within a round.

A round's figures were measured within minutes, so that noise of the machine cancels out.
"""

from collections.abc import Callable, Iterable

from benchmarks import precisions
from benchmarks.contenders import IN_OPENVINO, OURS, OURS_BY_DEFAULT
from benchmarks.samples import Results

Value = dict[int, float]  # by round
Find = Callable[[Results], Value]


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
    """A figure of the server in onnxruntime with the most requests per second, by round."""
    names = results.names(case)
    rivals = [name for name in names if is_rival(name) and name not in IN_OPENVINO]
    rates = {name: take(results, case, clients, who=name) for name in rivals}
    found: Value = {}
    for number in best(results, case, clients, rivals):
        name = max(rates, key=lambda name: rates[name].get(number, 0))
        found |= {number: take(results, case, clients, figure, name)[number]}
    return found


def is_rival(name: str) -> bool:
    """Whether a name is that of another server."""
    return name not in (OURS, OURS_BY_DEFAULT) and not name.startswith("bound")


def bound(results: Results, case: str) -> Value:
    """The rate of the best layout of threads without a server."""
    layouts = [name for name in results.names(case) if name.startswith("bound: together")]
    return best(results, case, 1, layouts)


def bound_latency(results: Results, case: str) -> Value:
    """Milliseconds for one picture at a time without a server, in the best layout."""
    layouts = [name for name in results.names(case) if "together batch 1, 1 workers" in name]
    return {number: 1000 / rate for number, rate in best(results, case, 1, layouts).items()}


def over_bound(case: str, clients: int) -> Find:
    """Requests per second, divided by the bound."""
    return lambda r: divide(take(r, case, clients), bound(r, case))


def cost_of_maps(case: str) -> Find:
    """The time of a batch with a map for each picture over that without, in process."""
    batch = "batch 8, 1 threads"
    return lambda r: divide(
        take(r, case, 1, who=f"bound: predict {batch}"),
        take(r, case, 1, who=f"bound: explain {batch}"),
    )


def over_rivals(case: str, clients: int, rival: str = "", who: str = OURS) -> Find:
    """Our requests per second, divided by those of one rival or of the best in onnxruntime."""

    def find(results: Results) -> Value:
        names = [name for name in results.names(case) if rival in name]
        theirs = (
            best(results, case, clients, names) if rival else best_rival(results, case, clients)
        )
        return divide(take(results, case, clients, who=who), theirs)

    return find


def tail_over_rival(clients: int, who: str = OURS) -> Find:
    """Our p99, divided by that of the best rival in onnxruntime."""
    return lambda r: divide(
        take(r, "photo", clients, "p99", who), best_rival(r, "photo", clients, "p99")
    )


def compare_cases(case: str, other: str, figure: str = "rps") -> Find:
    """Our figure in one case, divided by that in another, for photographs at the same load."""
    return lambda r: divide(
        take(r, f"photo {case}", 8, figure), take(r, f"photo {other}", 8, figure)
    )


def added_latency(case: str) -> Find:
    """Milliseconds that a single client waits in addition to decoding and inference."""
    return lambda r: subtract(take(r, case, 1, "p50"), bound_latency(r, case))


def open_tail(case: str, loop: str) -> Find:
    """p99 of an open loop, divided by the idle p50."""
    return lambda r: divide(take(r, f"{case} {loop}", 0, "p99"), take(r, case, 1, "p50"))


def beyond_empty(case: str, clients: int, figure: str) -> Find:
    """Our figure minus that of an empty BentoML service without requests."""
    return lambda r: subtract(take(r, case, clients, figure), take(r, "start", 0, figure, "empty"))


def find_precision(results: Results, precision: str, figure: str = "rps") -> Value:
    """A figure of the file in one precision."""
    return take(results, precisions.CASE, precisions.BATCH, figure, precision)


def in_8_bits(figure: str) -> Find:
    """A loss that the card of the 8-bit file gives."""
    return lambda r: find_precision(r, "int8", figure)
