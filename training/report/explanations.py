"""Plots and Markdown of the explanation metrics. Knows nothing of how they are measured."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from training.evaluate.explanations import ExplanationMetrics
from training.report.plots import save_figure

CURVE_STYLES = {
    "deletion": ("tab:red", "-"),
    "insertion": ("tab:green", "-"),
    "random": ("gray", "-"),
    "centre_deletion": ("tab:red", ":"),
    "centre_insertion": ("tab:green", ":"),
}
PLOTS = {
    "faithfulness.png": (
        "Deletion and insertion",
        "The probability of the answer while pixels go from the picture to its blur, hottest first "
        "(deletion), and back (insertion); solid: in the map's order, dotted: from the middle out, "
        "gray: at random. Means, with quartiles for the map. The further apart the solid lines, "
        "the more the map knows:",
    ),
    "randomisation.png": (
        "Randomisation",
        "How like the first map the maps are while the weights are shuffled from the top down; "
        "the dashed line is how like each other maps of different pictures are:",
    ),
}
PARTS = {
    "none": "as it is",
    "hottest": "without the hottest fifth",
    "coldest": "without a fifth of least \\|cam\\|",
    "against": "without the most negative part",
    "moved": "without the hottest fifth's shape elsewhere",
}


def save_explanation_plots(folder: Path, evidence: ExplanationMetrics) -> None:
    """Save the plots as PNGs in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_figure(plot_faithfulness_curves(evidence), folder / "faithfulness.png")
    save_figure(plot_randomisation(evidence.figures["randomisation"]), folder / "randomisation.png")


def plot_faithfulness_curves(evidence: ExplanationMetrics) -> Figure:
    """The probability by share of pixels, for each order."""
    figure = Figure((5, 3.4))
    axes = figure.add_subplot()
    for name, (color, style) in CURVE_STYLES.items():
        each = evidence.found.curves[name]  # (N, STEPS + 1)
        shares = np.linspace(0, 1, each.shape[1])
        label = f"{name.replace('_', ' ')} {evidence.found.compute_areas(name).mean():.2f}"
        axes.plot(shares, each.mean(0), color=color, linestyle=style, label=label)
        if style == "-" and name != "random":
            low, high = np.quantile(each, (0.25, 0.75), axis=0)
            axes.fill_between(shares, low, high, color=color, alpha=0.12, linewidth=0)
    axes.set_xlabel("share of the pixels, in order")
    axes.set_ylabel("probability of the answer")
    axes.set_ylim(0, 1.02)
    axes.legend(
        fontsize=7, title="area under the curve", title_fontsize=7, bbox_to_anchor=(1.01, 1)
    )
    return figure


def plot_randomisation(figures: dict[str, Any]) -> Figure:
    """The similarity to the first maps by layer, from the top of the network down."""
    steps = figures["steps"]
    figure = Figure((5, 3))
    axes = figure.add_subplot()
    names = ["trained", *(step["layer"] for step in steps)]
    for key, color in (("rank", "tab:blue"), ("ssim", "tab:orange")):
        caption = {"rank": "|rank correlation|", "ssim": "structural similarity"}[key]
        shown = [np.nan if step[key] is None else step[key] for step in steps]
        axes.plot([1, *shown], color=color, marker="o", label=caption)
    if figures["others"] is not None:
        axes.axhline(figures["others"], color="tab:blue", linestyle="--", linewidth=0.8)
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("weights shuffled down to")
    axes.legend(fontsize=7)
    return figure


def format_verdict(metrics: dict[str, Any] | None, maps: dict[str, Any] | None) -> str:
    """All doubts, and what was not measured (None), of the card's metrics and its maps' figures."""
    both = {"its accuracy": metrics, "its maps": maps}
    measured = {name: found for name, found in both.items() if found is not None}
    missing = [name for name in both if name not in measured]
    doubts = [doubt for found in measured.values() for doubt in found.get("doubts", [])]
    sentences = [format_doubts(doubts, " and ".join(measured))] if measured else []
    sentences += [f"Not measured: {' and '.join(missing)}."] if missing else []
    return " ".join(sentences)


def format_doubts(doubts: list[str], subject: str) -> str:
    """The doubts in one sentence."""
    return f"Doubts: {'; '.join(doubts)}." if doubts else f"No check of {subject} raised a doubt."


def format_explanation_metrics(folder: Path, figures: dict[str, Any]) -> list[str]:
    """The card's `checks.faithfulness` and the folder's plots, as Markdown."""
    lines = [f"On {figures['measured_on']}, through this very file ({figures['seconds']:.0f} s)."]
    lines += ["", f"**{format_doubts(figures['doubts'], 'its maps')}**"]
    lines += ["", "| measure | value |", "|---|---|"]
    rows = {
        "empty maps": f"{figures['empty']:.1%}",
        "area under deletion (less is better)": f"{figures['deletion']:.3f}",
        "area under insertion (more is better)": f"{figures['insertion']:.3f}",
        "insertion less deletion": f"**{figures['score']:.3f}**",
        "the same for a blob in the middle": f"{figures['centre_score']:.3f}",
        "area in random order, either way": f"{figures['random']:.3f}",
    }
    if figures["blurred"]:
        rows |= {
            f"probability of the answer, {caption}": f"{figures['blurred'][name]:.3f}"
            for name, caption in PARTS.items()
        }
        more = figures["blurred"]["hottest_hurts_more"]
        rows["pictures that the hottest fifth's blur hurts more than the coldest's"] = f"{more:.1%}"
    if figures["completeness"] is not None:
        rows["sum of the map against logit - bias"] = f"{figures['completeness']:.2g}"
    last = figures["randomisation"]["steps"][-1]
    rows["rank correlation with the map of the wholly shuffled network"] = (
        "not defined: all maps are constant" if last["rank"] is None else f"{last['rank']:.2f}"
    )
    if game := figures["pointing"]:
        rows[f"hottest pixel on the right tile, {game['mosaics']} mosaics of four"] = (
            f"{game['hits']:.1%}"
        )
        rows["heat on the right tile"] = (
            "not defined: all maps are empty"
            if game["heat_inside"] is None
            else f"{game['heat_inside']:.1%}"
        )
    else:
        rows["pointing game on mosaics"] = f"not played: {figures['pointing_reason']}"
    lines += [f"| {name} | {value} |" for name, value in rows.items()]
    for name, (title, caption) in PLOTS.items():
        if (folder / name).exists():
            lines += ["", caption, "", f"![{title}]({name})"]
    return lines
