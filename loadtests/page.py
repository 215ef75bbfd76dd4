"""Writes one page per run, as Markdown and HTML: the verdict, the table and two plots.

It knows rows and windows; it knows nothing about Locust.
"""

import html
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from loadtests.record import PERCENTILES, Window
from loadtests.verdict import MET, Row, describe_missed, describe_verdict, judge

mpl.use("svg")
SHARES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; }
.met { color: #14683a; } .missed { color: #a3261a; }
p.about { color: #57606a; margin: 0 0 1.5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid #d8dee4; }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left; }
td small { color: #57606a; }
td b { color: #a3261a; }
svg { max-width: 100%; height: auto; margin-top: 1.5rem; }
"""
LEGEND: Any = {"frameon": False, "loc": "upper left", "bbox_to_anchor": (1, 1)}
HTML_CELL = ("{} <small>≤ {}</small>", "<b>{}</b>")


class Run(NamedTuple):
    """Everything that a page shows."""

    title: str
    about: str
    rows: list[Row]
    curves: Mapping[str, Sequence[float]]  # milliseconds at each of `SHARES`, by endpoint
    windows: list[Window]


def write(run: Run, folder: Path) -> None:
    """Write `verdict.md`, `verdict.html` and the plots into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    plots = {"percentiles": draw_percentiles(run), "time": draw_time(run)}
    for name, svg in plots.items():
        (folder / f"{name}.svg").write_text(svg)
    (folder / "verdict.md").write_text(make_markdown(run, list(plots)))
    (folder / "verdict.html").write_text(make_html(run, list(plots.values())))


def make_markdown(run: Run, plots: list[str]) -> str:
    """The page as Markdown, with links to the plots."""
    lines = [f"# {run.title}", "", f"**{describe_verdict(run.rows)}** {run.about}", ""]
    lines += [f"| {' | '.join(_list_headers())} |", "|---|--:|--:|--:|--:|--:|---|"]
    lines += [f"| {' | '.join(_format_cells(row, '{} (≤ {})', '**{}**'))} |" for row in run.rows]
    return "\n".join([*lines, "", *(f"![{name}]({name}.svg)" for name in plots), ""])


def make_html(run: Run, plots: list[str]) -> str:
    """The page as a single HTML file."""
    headers = "".join(f"<th>{header}</th>" for header in _list_headers())
    rows = "".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in _format_cells(row, *HTML_CELL)) + "</tr>"
        for row in run.rows
    )
    css_class = "met" if judge(run.rows) == MET else "missed"
    return (
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{html.escape(run.title)}"
        f"</title><style>{STYLE}</style><h1>{html.escape(run.title)}: "
        f"<span class='{css_class}'>{describe_verdict(run.rows)}</span></h1>"
        f"<p class='about'>{html.escape(run.about)}</p>"
        f"<table><tr>{headers}</tr>{rows}</table>{''.join(plots)}</html>\n"
    )


def draw_percentiles(run: Run) -> str:
    """Draw the latency by percentile, one line per endpoint."""
    figure, axes = plt.subplots(figsize=(10, 4))
    positions = list(range(len(SHARES)))
    for endpoint, curve in run.curves.items():
        axes.plot(positions, [max(ms, 1) for ms in curve], marker="o", markersize=3, label=endpoint)
    axes.set_xticks(positions, [f"p{100 * share:g}" for share in SHARES])
    _scale_milliseconds(axes)
    axes.set_title("Latency by percentile", loc="left")
    axes.grid(alpha=0.3)
    if run.curves:
        axes.legend(**LEGEND)
    return _save(figure)


def draw_time(run: Run) -> str:
    """Draw the latency over time, and below it users, requests per second and failures."""
    figure, (latency_axes, rate_axes) = plt.subplots(2, 1, figsize=(10, 5.5), sharex=True)
    with_answers = [window for window in run.windows if window.percentiles]
    for index, share in enumerate(PERCENTILES):
        times = [max(window.percentiles[index], 1) for window in with_answers]
        latency_axes.plot(
            [window.seconds for window in with_answers], times, label=f"p{100 * share:g}"
        )
    _scale_milliseconds(latency_axes)
    latency_axes.set_title("All requests over time", loc="left")
    seconds = [window.seconds for window in run.windows]
    rate_axes.plot(seconds, [window.rate for window in run.windows], label="requests per second")
    rate_axes.plot(
        seconds, [window.users for window in run.windows], label="users", drawstyle="steps-mid"
    )
    rate_axes.plot(
        seconds, [window.failures for window in run.windows], label="failed", color="#a3261a"
    )
    rate_axes.set_xlabel("seconds")
    rate_axes.set_ylim(bottom=0)
    for axes in (latency_axes, rate_axes):
        axes.grid(alpha=0.3)
        axes.legend(**LEGEND)
    return _save(figure)


def _scale_milliseconds(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("milliseconds")


def _list_headers() -> list[str]:
    return ["endpoint", "requests", "failed", "p50 ms", "p95 ms", "p99 ms", "verdict"]


def _format_cells(row: Row, limited: str, missed: str) -> list[str]:
    times = []
    for name, ms in row.times.items():
        cell = f"{ms:,.0f}"
        if limit := row.limits.get(name):
            is_missed = ms > limit and name not in row.unjudged
            cell = limited.format(missed.format(cell) if is_missed else cell, limit)
        times.append(cell)
    verdict = "missed" if row.missed else describe_missed(row)
    return [row.endpoint, f"{row.requests:,}", f"{row.failures:,}", *times, verdict]


def _save(figure: Figure) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", bbox_inches="tight")
    plt.close(figure)
    text = file.getvalue()
    return text[text.index("<svg") :]
