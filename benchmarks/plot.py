"""Draws the results: throughput of each server, latency, and throughput as the work grows."""

from pathlib import Path
from typing import Any

from benchmarks.contenders import OURS, OURS_BY_DEFAULT
from benchmarks.ratios import bound, is_rival
from benchmarks.samples import Results, spread

TITLES = {
    "digit": "LeNet-5, 28x28 PNG",
    "photo": "ResNet-18, 500x375 JPEG",
    "large": "ResNet-18, 2000x1500 JPEG",
}
LINES = {
    "by cores": ("cores", "rps", "500x375 per second"),
    "by size": ("megapixels", "rps", "photographs per second"),
    "by batch": ("digits in a request", "images", "digits per second"),
    "by models": ("models loaded", "rps", "digits per second"),
}
OUR_COLOURS, RIVAL_COLOURS = (
    {OURS: "#d1495b", OURS_BY_DEFAULT: "#8c1c2f"},
    (
        "#30638e",
        "#5b8e7d",
        "#8d6a9f",
        "#8c8c8c",
        "#bc8034",
        "#a3b18a",
        "#3d405b",
        "#e9c46a",
    ),
)
CLIENTS = (1, 8, 32)


def draw(results: Results, path: Path) -> None:
    """Draw and write the picture."""
    import matplotlib  # slow to import, and needed only here

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 4, figsize=(16, 8), layout="constrained")
    labelled: dict[str, Any] = {}  # one legend for all cases
    for case, ax in zip(TITLES, axes[0], strict=False):
        draw_case(results, case, ax)
        handles, labels = ax.get_legend_handles_labels()
        labelled |= dict(zip(labels, handles, strict=True))
    if labelled:
        figure.legend(labelled.values(), labelled, loc="outside lower center", ncols=6, fontsize=9)
    draw_latency(results, axes[0][3])
    for case, ax in zip(LINES, axes[1], strict=True):
        draw_line(results, case, ax)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def draw_case(results: Results, case: str, ax: Any) -> None:
    """Draw requests per second of each server by clients, with the spread, and the bound."""
    rivals = sorted(filter(is_rival, {name for c in TITLES for name in results.names(c)}))
    names = [*OUR_COLOURS, *rivals]
    asked = [clients for clients in CLIENTS if results.find(case, OURS, clients, "rps")]
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        colour = OUR_COLOURS.get(name) or RIVAL_COLOURS[place % len(RIVAL_COLOURS)]
        found = [results.find(case, name, clients, "rps") for clients in asked]
        seen = [(i, one) for i, one in enumerate(found) if one]
        if seen:
            ax.bar(
                [i + place * width for i, _ in seen],
                [one.middle for _, one in seen],
                width,
                yerr=[
                    [one.middle - one.low for _, one in seen],
                    [one.high - one.middle for _, one in seen],
                ],
                color=colour,
                ecolor="#444444",
                label=name,
            )
    if most := bound(results, case):
        ax.axhline(spread(most.values()).middle, color="black", linestyle=":", label="bound")
    ax.set_xticks([i + 0.4 - width / 2 for i in range(len(asked))], [str(n) for n in asked])
    ax.set(title=TITLES[case], xlabel="clients", ylabel="requests per second")


def draw_latency(results: Results, ax: Any) -> None:
    """Draw the percentiles of the open loop by share of the capacity."""
    shares = (50, 80, 95)
    for case, style in (("digit", "--"), ("photo", "-")):
        for figure, colour in (("p50", "#30638e"), ("p99", OUR_COLOURS[OURS])):
            found = [results.find(f"{case} paced {share} %", OURS, 0, figure) for share in shares]
            seen = [(share, one.middle) for share, one in zip(shares, found, strict=True) if one]
            if seen:
                ax.plot(
                    *zip(*seen, strict=True),
                    style,
                    color=colour,
                    marker="o",
                    label=f"{case} {figure}",
                )
    ax.set(title="sightglass, open loop", xlabel="% of capacity", ylabel="ms", yscale="log")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(fontsize=7)


def draw_line(results: Results, case: str, ax: Any) -> None:
    """Draw throughput as one quantity grows."""
    quantity, figure, unit = LINES[case]
    numbers = sorted({sample.clients for sample in results.samples if sample.case == case})
    found = [
        results.find(case, OURS, n, figure) or results.find(case, OURS, n, "rps") for n in numbers
    ]
    scale = 1e-6 if case == "by size" else 1
    ax.plot(
        [n * scale for n in numbers],
        [one.middle for one in found if one],
        color=OUR_COLOURS[OURS],
        marker="o",
    )
    if case != "by cores":
        ax.set_xscale("log")
    ax.minorticks_off()
    ax.set_xticks([n * scale for n in numbers], [f"{n * scale:.2g}" for n in numbers])
    ax.set(title=f"by {quantity}", xlabel=quantity, ylabel=unit)
    ax.set_ylim(bottom=0)
