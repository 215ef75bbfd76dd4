"""Plots of masks and their maps. Knows nothing of where the numbers come from."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from training.artifact.palette import find_background, make_palette
from training.evaluate.masks.faithfulness import find_largest, make_whole_regions
from training.evaluate.masks.overlap import MaskEvaluation
from training.gradcam.heatmap import render_heatmap
from training.gradcam.masks.pixels import ANY_CLASS
from training.graph.session import MaskRunner
from training.imaging.preprocessing import IGNORED, Pixels
from training.report.plots import (
    MAX_CONFUSION_CLASSES,
    PLOTS,
    plot_confusion_matrix,
    plot_training_curves,
    save_figure,
)

SHOWN = 6  # pictures in a plot
OPACITY = 0.45


def save_mask_plots(
    folder: Path,
    evaluation: MaskEvaluation,
    history: Sequence[dict[str, float]] = (),
    run: MaskRunner | None = None,
    private: bool = False,
) -> None:
    """Save the plots as PNGs in the folder, and remove older ones. The last has maps of `run`.

    If the pictures are private, plots that show pictures are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in PLOTS:
        (folder / name).unlink(missing_ok=True)
    labels = evaluation.labels
    if len(labels) <= MAX_CONFUSION_CLASSES:
        confusion = np.array(evaluation.figures["confusion"])
        save_figure(plot_confusion_matrix(confusion, labels), folder / "confusion.png")
    if history:
        save_figure(plot_training_curves(history), folder / "curves.png")
    if not private:
        save_figure(plot_worst_masks(evaluation), folder / "worst_masks.png")
    if run is not None and not private:
        save_figure(plot_mask_maps(evaluation, run), folder / "mask_maps.png")


def plot_worst_masks(evaluation: MaskEvaluation) -> Figure:
    """The pictures with the least mIoU: as they are, with the true mask, and with the answer."""
    rows = np.argsort(evaluation.scores)[:SHOWN]
    figure = Figure((1.7 * len(rows), 5.4))
    for place, row in enumerate(rows):
        picture = np.asarray(evaluation.split.pictures[row])
        masks = np.asarray(evaluation.split.labels[row]), evaluation.masks[row]
        views = [to_rgb(picture), *(overlay(picture, mask, evaluation.labels) for mask in masks)]
        name = f"{evaluation.split.files[row].picture.stem[:16]}\nmIoU {evaluation.scores[row]:.2f}"
        add_column(figure, views, (place, len(rows)), name)
    return figure


def plot_mask_maps(evaluation: MaskEvaluation, run: MaskRunner) -> Figure:
    """For some pictures: the answer, the map of all its pixels, and that of one of them.

    The pictures are spread evenly over the split.
    """
    count = min(SHOWN, len(evaluation.masks))
    rows = np.linspace(0, len(evaluation.masks) - 1, count).astype(int)
    classes, background = len(evaluation.labels), find_background(evaluation.labels)
    figure = Figure((1.7 * count, 5.4))
    for place, row in enumerate(rows):
        picture = np.asarray(evaluation.split.pictures[row])
        index, pixels = find_largest(evaluation.masks[row], classes, background)
        y, x = find_inner_pixel(pixels)
        region = np.concatenate(
            [make_whole_regions(1, picture.shape), [[[ANY_CLASS, x, y, x + 1, y + 1]]]], 1
        )
        cams = run(picture[None], np.array([[index, index]]), region)[2][0]
        views = [overlay(picture, evaluation.masks[row], evaluation.labels)]
        views += [heat(picture, cam) for cam in cams]
        axes = add_column(figure, views, (place, count), evaluation.labels[index])
        axes[-1].plot([x], [y], "+", color="red", markersize=7)
    return figure


def find_inner_pixel(pixels: NDArray[np.bool_]) -> tuple[int, int]:
    """The row and column of the pixel of a set (H, W) that is nearest to their middle."""
    at = np.argwhere(pixels)
    y, x = at[((at - at.mean(0)) ** 2).sum(1).argmin()]
    return int(y), int(x)


def overlay(picture: Pixels, mask: Pixels, labels: tuple[str, ...]) -> NDArray[np.float64]:
    """A picture (H, W, C) under the colours of its mask (H, W); the background is clear."""
    base, background = to_rgb(picture), find_background(labels)
    colors = np.zeros((256, 3))
    for index, text in enumerate(make_palette(labels)):
        colors[index] = [int(text[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    shown = (mask != IGNORED) & (mask != (-1 if background is None else background))
    share = OPACITY * shown[..., None]
    return np.asarray(base * (1 - share) + colors[mask] * share)


def heat(picture: Pixels, cam: NDArray[np.float32]) -> NDArray[np.float64]:
    """A picture (H, W, C) under the heatmap of `cam` (h, w)."""
    base = to_rgb(picture)
    h = render_heatmap(cam, picture.shape[:2])[..., None]
    color = colormaps["viridis"](h[..., 0])[..., :3]
    return np.asarray(base * (1 - 0.6 * h) + color * 0.6 * h)


def to_rgb(picture: Pixels) -> NDArray[np.float64]:
    """Pixels (H, W, C) as (H, W, 3) in 0..1."""
    return np.asarray(np.broadcast_to(picture, (*picture.shape[:2], 3)) / 255)


def add_column(
    figure: Figure, views: list[NDArray[np.float64]], place: tuple[int, int], title: str
) -> list[Axes]:
    """Draw views of one picture below each other; returns their axes."""
    column, columns = place
    drawn = []
    for row, view in enumerate(views):
        axes = figure.add_subplot(len(views), columns, row * columns + column + 1)
        axes.imshow(np.clip(view, 0, 1))
        axes.axis("off")
        drawn.append(axes)
    drawn[0].set_title(title, fontsize=6)
    return drawn
