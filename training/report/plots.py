"""Plots and Markdown of a classifier's metrics. Knows nothing of where the numbers come from."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from training.data.datasets import Split
from training.evaluate.metrics import Evaluation
from training.gradcam.heatmap import render_heatmap, render_signed_heatmap
from training.imaging.preprocessing import GraphRunner

MAX_CONFUSION_CLASSES = 100  # with more classes the confusion matrix is not plotted
PLOTS = {  # file: (title, caption), in page order
    "confusion.png": ("Confusion matrix", ""),
    "reliability.png": ("Reliability", ""),
    "risk_coverage.png": (
        "Risk and coverage",
        "The error of the answers that come without a warning, by their share:",
    ),
    "mistakes.png": (
        "Mistakes",
        "The surest mistakes, with the true label and what was answered:",
    ),
    "worst_masks.png": (
        "The worst masks",
        "The pictures with the least mIoU (top row: the picture; middle: the true mask; bottom: "
        "the answer):",
    ),
    "curves.png": ("Training and validation loss", ""),
    "heatmaps.png": (
        "Heatmaps",
        "What speaks for the answer (top row: the picture; middle: Grad-CAM over it; bottom: "
        "signed, red for and blue against):",
    ),
    "mask_maps.png": (
        "Maps of masks",
        "Why the pixels got their class (top row: the answer; middle: the map of all pixels of the "
        "largest class; bottom: the map of the one pixel at the cross):",
    ),
}


def save_report_plots(
    folder: Path,
    evaluation: Evaluation,
    history: Sequence[dict[str, float]] = (),
    run: GraphRunner | None = None,
    private: bool = False,
) -> None:
    """Save the plots as PNGs in the folder, and remove older ones.

    If the pictures are private, plots that show pictures are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in PLOTS:
        (folder / name).unlink(missing_ok=True)
    labels, split, probabilities = evaluation.labels, evaluation.split, evaluation.probabilities
    save_figure(plot_reliability(probabilities, split.labels), folder / "reliability.png")
    if "confusion" in evaluation.figures:
        if len(labels) <= MAX_CONFUSION_CLASSES:
            confusion = np.array(evaluation.figures["confusion"])
            save_figure(plot_confusion_matrix(confusion, labels), folder / "confusion.png")
        wrong = find_mistakes(probabilities, split.labels)
        if len(wrong) and not private:
            save_figure(plot_mistakes(split, wrong, probabilities, labels), folder / "mistakes.png")
    if history:
        save_figure(plot_training_curves(history), folder / "curves.png")
    if run is not None and not private:
        save_figure(plot_heatmaps(split, labels, run), folder / "heatmaps.png")


def format_metrics(folder: Path, figures: dict[str, Any]) -> list[str]:
    """The metrics and the folder's plots, as lines of Markdown."""
    lines = [*format_table(figures), ""]
    if remarks := list_remarks(figures):
        lines += [*(f"- {sentence}" for sentence in remarks), ""]
    for name, (title, caption) in PLOTS.items():
        if (folder / name).exists():
            lines += [caption, ""] if caption else []
            lines += [f"![{title}]({name})", ""]
    columns = list(next(iter(figures["per_class"].values())))
    lines += ["| class | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for name, values in figures["per_class"].items():
        cells = (format_figure(value, 4) for value in values.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def list_remarks(figures: dict[str, Any]) -> list[str]:
    """The doubts about the metrics, and which of them are not defined, as sentences."""
    doubts = figures.get("doubts", [])
    return [*(f"Doubt: {doubt}." for doubt in doubts), *figures.get("undefined", [])]


def format_table(figures: dict[str, Any], head: str = "| measure | value |") -> list[str]:
    """The scalar figures as a Markdown table. None is a figure that is not defined.

    A figure with a 95 % confidence interval has it beside it.
    """
    rows = [
        f"| {name.replace('_', ' ')} | {format_figure(value, 6)}{format_interval(figures, name)} |"
        for name, value in figures.items()
        if isinstance(value, int | float | None)
    ]
    return [head, "|---|---|", *rows]


def format_interval(figures: dict[str, Any], name: str) -> str:
    """The 95 % confidence interval of a figure, if it has one."""
    interval = figures.get("intervals", {}).get(name)
    return f" (95 %: {interval[0]:.5g} to {interval[1]:.5g})" if interval else ""


def format_figure(value: float | None, digits: int) -> str:
    """The figure with so many significant digits."""
    return "not defined" if value is None else f"{value:.{digits}g}"


def plot_confusion_matrix(counts: NDArray[np.int64], labels: Sequence[str]) -> Figure:
    """The confusion matrix: true classes in rows, answers in columns.

    The rows of classes without pictures are gray.
    """
    k = len(labels)
    figure = Figure((0.45 * k + 1.8, 0.45 * k + 1.5) if k <= 30 else (9, 9))
    axes = figure.add_subplot()
    totals = counts.sum(1, keepdims=True)
    shares = np.ma.masked_where(np.broadcast_to(totals == 0, counts.shape), counts / totals.clip(1))
    axes.imshow(shares, cmap=colormaps["Blues"].with_extremes(bad="0.85"), vmin=0, vmax=1)
    if k <= 30:
        for i, j in np.ndindex(k, k):
            if counts[i, j]:
                color = "white" if shares[i, j] > 0.5 else "black"
                axes.text(
                    j, i, str(counts[i, j]), ha="center", va="center", fontsize=7, color=color
                )
        axes.set_xticks(range(k), labels, rotation=90, fontsize=8)
        rows = [
            name if n else f"{name} (no pictures)" for name, n in zip(labels, totals, strict=True)
        ]
        axes.set_yticks(range(k), rows, fontsize=8)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    return figure


def plot_reliability(
    probabilities: NDArray[np.float32], truth: NDArray[Any], bins: int = 15
) -> Figure:
    """A reliability diagram: accuracy by confidence; the diagonal is perfect calibration.

    If multilabel, each label's probability counts as an answer.
    """
    if truth.ndim == 2:
        sure, right = probabilities.ravel(), truth.ravel() > 0
    else:
        sure, right = probabilities.max(1), probabilities.argmax(1) == truth
    place = np.minimum((sure * bins).astype(int), bins - 1)
    figure = Figure((4, 3.6))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="gray", linewidth=0.8)
    for i in np.unique(place):
        rows = place == i
        axes.bar((i + 0.5) / bins, right[rows].mean(), 0.9 / bins, color="tab:blue", alpha=0.8)
        axes.text((i + 0.5) / bins, 0.02, str(rows.sum()), fontsize=6, ha="center", rotation=90)
    axes.set_xlabel("probability of the answer")
    axes.set_ylabel("share that is right (count below)")
    return figure


def save_risk_coverage(folder: Path, confidence: dict[str, Any]) -> None:
    """Save the plot of a card's `confidence`, if it has a curve."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "risk_coverage.png").unlink(missing_ok=True)
    if "curve" in confidence:
        save_figure(plot_risk_coverage(confidence), folder / "risk_coverage.png")


def plot_risk_coverage(confidence: dict[str, Any]) -> Figure:
    """The risk-coverage curve of a card's `confidence`, and where its threshold lies."""
    coverage, risk = np.array(confidence["curve"]).T
    figure = Figure((4, 3))
    axes = figure.add_subplot()
    axes.plot(coverage, risk, marker=".", markersize=4)
    axes.axhline(confidence["error_of_all"] / 2, color="gray", linewidth=0.8, linestyle="--")
    axes.axvline(confidence["coverage"], color="tab:green", linewidth=0.8)
    axes.set_title(f"threshold {confidence['threshold']:.4g}", fontsize=8)
    axes.set_xlabel("coverage: share of answers without a warning")
    axes.set_ylabel("error of these answers")
    axes.set_ylim(bottom=0)
    return figure


def plot_training_curves(history: Sequence[dict[str, float]]) -> Figure:
    """The losses by epoch, and the validation accuracy or mIoU."""
    name, label = ("val_accuracy", "validation accuracy")
    if "val_miou" in history[0]:
        name, label = ("val_miou", "validation mIoU")
    epochs = range(1, len(history) + 1)
    figure = Figure((6, 3.2))
    axes = figure.add_subplot()
    axes.semilogy(epochs, [h["train_loss"] for h in history], label="training loss (distorted)")
    axes.semilogy(epochs, [h["val_loss"] for h in history], label="validation loss")
    axes.set_xlabel("epoch")
    axes.legend(loc="center right", fontsize=7)
    other = axes.twinx()
    other.plot(epochs, [h[name] for h in history], color="tab:green", linewidth=0.8)
    other.set_ylabel(label, color="tab:green")
    other.set_ylim(max(0, 2 * np.median([h[name] for h in history]) - 1.01), 1)
    return figure


def find_mistakes(
    probabilities: NDArray[np.float32], truth: NDArray[Any], most: int = 24
) -> NDArray[Any]:
    """The indices of the wrong answers, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(1) != truth)
    order: NDArray[Any] = np.argsort(-probabilities[wrong].max(1))[:most]
    return np.asarray(wrong[order])


def plot_mistakes(
    split: Split, rows: NDArray[Any], probabilities: NDArray[np.float32], labels: Sequence[str]
) -> Figure:
    """The pictures of these rows, with true label, answer and probability."""
    across = 8
    down = -(-len(rows) // across)
    figure = Figure((across * 1.1, down * 1.5))
    for place, row in enumerate(rows):
        axes = figure.add_subplot(down, across, place + 1)
        axes.imshow(split.pictures[row].squeeze(), cmap="gray")
        answer = probabilities[row].argmax()
        names = f"{shorten_label(labels[split.labels[row]])}\n→ {shorten_label(labels[answer])}"
        axes.set_title(f"{names}\n{probabilities[row, answer]:.2f}", fontsize=6)
        axes.axis("off")
    return figure


def plot_heatmaps(split: Split, labels: Sequence[str], run: GraphRunner, most: int = 10) -> Figure:
    """One picture per class: the picture, with its heatmap, and its signed heatmap."""
    truth = split.labels.argmax(1) if split.labels.ndim == 2 else split.labels
    classes = np.unique(truth)[:most]
    rows = np.array([np.flatnonzero(truth == c)[0] for c in classes])
    image = np.array(split.pictures[rows])
    if image.shape[3] == 1:  # every other gray picture inverted, like ink on paper
        image[1::2] = 255 - image[1::2]
    _, probabilities, cam = run(image, np.full((len(rows), 1), -1, np.int64))
    figure = Figure((1.1 * len(rows), 3.9))
    for i in range(len(rows)):
        base = np.broadcast_to(image[i], (*image.shape[1:3], 3)) / 255
        h = render_heatmap(cam[i, 0], image.shape[1:3])[..., None]
        color = colormaps["viridis"](h[..., 0])[..., :3]
        signed = render_signed_heatmap(cam[i, 0], image.shape[1:3])
        views = base, base * (1 - 0.6 * h) + color * 0.6 * h, colormaps["bwr"]((signed + 1) / 2)
        for j, view in enumerate(views):
            axes = figure.add_subplot(3, len(rows), j * len(rows) + i + 1)
            axes.imshow(np.clip(view, 0, 1))
            axes.axis("off")
        answer = probabilities[i].argmax()
        figure.axes[-3].set_title(
            f"{shorten_label(labels[answer])}\n{probabilities[i, answer]:.3f}", fontsize=6
        )
    return figure


def shorten_label(label: str) -> str:
    """At most 12 characters of a label."""
    return label if len(label) <= 12 else label[:11] + "…"


def save_figure(figure: Figure, path: Path) -> None:
    """Save as a small PNG of at most 128 colours."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=80, bbox_inches="tight")
    image = Image.open(buffer).convert("RGB")
    image.quantize(128).save(path, optimize=True)
