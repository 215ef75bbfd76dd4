"""Writes the results as Markdown between the markers in docs/explanation/benchmarks*.md."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import precisions, queueing
from benchmarks.contenders import OURS, OURS_BY_DEFAULT
from benchmarks.ratios import bound, is_rival
from benchmarks.samples import Results, Spread, spread
from benchmarks.targets import TARGETS

CASES = {
    "digit": "LeNet-5, 28x28 PNG",
    "photo": "ResNet-18, 500x375",
    "large": "… 2000x1500",
    "mask": "U-Net, 256x256 PNG",
}
OUR_NAMES = (OURS, OURS_BY_DEFAULT)
CLIENTS = (1, 8, 32)
LOAD_HEAD = ("requests/s", "p50 ms", "p95 ms", "p99 ms", "errors", "CPU ms", "client ms", "MB")
LOAD_FIGURES = ("rps", "p50", "p95", "p99", "errors", "server_cpu_ms", "client_cpu_ms", "peak_mb")
MISSING = "not measured"


def write_pages(results: Results, pages: Iterable[Path]) -> None:
    """Replace every generated block. The text around the blocks is written by hand.

    Each block is on one of the pages.
    """
    texts = {page: page.read_text() for page in pages}
    for name, make in BLOCKS.items():
        block = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        [page] = [page for page, text in texts.items() if block.search(text)]
        made = make(results) + "\n"
        texts[page] = block.sub(lambda _: made, texts[page])  # noqa: B023
    for page, text in texts.items():
        page.write_text(text)


def make_about(results: Results) -> str:
    """The machine, the date and the number of rounds."""
    about, rounds = results.about, len({s.round for s in results.samples} - {0})
    return (
        f"Measured {about['date']} on {about['machine']}; {rounds} rounds; {about['versions']}. "
        "Each figure is the median of the rounds, with the lowest and the highest in brackets.\n\n"
        "![Requests a second by server, latency in an open loop, throughput as the work grows]"
        "(../pictures/benchmarks.png)"
    )


def make_targets(results: Results) -> str:
    """The targets and whether they were met."""
    rows = []
    for target in TARGETS:
        goal = f"{target.sense} {target.bar:g} {target.unit}"
        if judged := target.judge(results):
            measured, met = judged
            figure = measured.format(format_number)
            rows.append((target.what, goal, figure, "met" if met else "**missed**"))
        else:
            rows.append((target.what, goal, MISSING, ""))
    return make_table(("what", "target", "measured", ""), rows)


def make_servers(results: Results) -> str:
    """All servers in all cases."""
    rows = []
    for case, title in CASES.items():
        for clients in CLIENTS:
            for name in [*OUR_NAMES, *filter(is_rival, results.names(case))]:
                if cells := format_load(results, case, name, clients):
                    server = f"**{name}**" if name in OUR_NAMES else name
                    rows.append((title, str(clients), server, *cells))
    return make_table(("case", "clients", "server", *LOAD_HEAD), rows)


def make_ours(results: Results) -> str:
    """The calls that only our service offers, and its throughput as the work grows."""
    measured = dict.fromkeys((s.case, s.who, s.clients) for s in results.samples)
    rows = []
    for case, who, clients in measured:
        if (
            who == OURS
            and case not in CASES
            and (cells := format_load(results, case, who, clients))
        ):
            rows.append((case, str(clients or "open loop"), *cells))
    return make_table(("case", "clients", *LOAD_HEAD), rows)


def format_load(results: Results, case: str, who: str, clients: int) -> list[str] | None:
    """The figures of a load, in the order of `LOAD_FIGURES`."""
    found = [results.find(case, who, clients, figure) for figure in LOAD_FIGURES]
    return format_spreads(found) if found[0] else None


def format_spreads(spreads: Iterable[Spread | None]) -> list[str]:
    """Each spread as text, empty if it was not measured."""
    return [one.format(format_number) if one else "" for one in spreads]


def make_bound(results: Results) -> str:
    """The bound of the cores without a server."""
    rows = []
    for case, title in CASES.items():
        for name in filter(lambda name: name.startswith("bound"), results.names(case)):
            rates = results.by_round(case, name, 1, "rps").values()
            rows.append((title, name.removeprefix("bound: "), spread(rates).format(format_number)))
        if most := bound(results, case):
            rate = spread(most.values()).format(format_number)
            rows.append((title, "**the bound: the best of these together**", rate))
    return make_table(("case", "layout", "images/s"), rows)


def make_precisions(results: Results) -> str:
    """One network in several precisions."""
    figures = ("rps", "points", "cosine")
    rows = [
        (
            name,
            *format_spreads(
                results.find(precisions.CASE, name, precisions.BATCH, f) for f in figures
            ),
        )
        for name in results.names(precisions.CASE)
    ]
    head = ("precision", "images/s", "points of accuracy", "cosine of the maps")
    return make_table(head, rows) if rows else MISSING


def make_queue(results: Results) -> str:
    """The cost of one row in the queue."""
    rows = [
        (
            name,
            *format_spreads(
                results.find(queueing.CASE, name, clients, "us") for clients in CLIENTS
            ),
        )
        for name in results.names(queueing.CASE)
    ]
    head = ("the run is", *(f"{clients} rows at a time" for clients in CLIENTS))
    return make_table(head, rows) if rows else MISSING


def make_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows as a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def format_number(value: float) -> str:
    """Three significant digits, or an integer from 100 on."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


BLOCKS = {
    "about": make_about,
    "targets": make_targets,
    "servers": make_servers,
    "ours": make_ours,
    "bound": make_bound,
    "precisions": make_precisions,
    "queue": make_queue,
}
