"""What a lower precision changed, and what `--precision auto` tried, as Markdown."""

from typing import Any

from training.artifact.precision_loss import EXACT_PRECISIONS
from training.report.plots import format_table

PRECISION = {
    "pixels_changed": "share of the pixels with another class",
    "accuracy_points": "change of accuracy, in points",
    "cam_cosine": "mean cosine between its maps and those in 32 bits",
    "cam_cosine_worst": "least such cosine",
    "cam_pointing": "share of maps that are hottest in the same cell",
    "cam_pointing_near": "share of maps that are hottest in the same cell or a neighbour",
    "calibration_points": "growth of the calibration error, in points",
}
TRIED = {  # columns: heading, format
    "cpu_speed": ("speed", "{:.2f}"),
    "pictures": ("pictures", "{:,}"),
    "accuracy_points": ("accuracy, points", "{:+.2f}"),
    "cam_cosine": ("mean cosine", "{:.4f}"),
    "cam_cosine_worst": ("least", "{:.3f}"),
    "cam_pointing_near": ("hottest cell", "{:.1%}"),
    "calibration_points": ("calibration error, points", "{:+.2f}"),
}


def format_precision(loss: dict[str, Any]) -> list[str]:
    """The card's `checks.precision`, as tables with an introduction."""
    lines = [f"`{loss['precision']}` against the same graph in 32 bits, on "
             f"{loss['pictures']:,} pictures:", ""]  # fmt: skip
    if loss["precision"] not in EXACT_PRECISIONS:
        lines = ["The comparisons with torch are those of the graph in 32 bits, before "
                 f"`{loss['precision']}`.", "", *lines]  # fmt: skip
    lines += format_table({text: loss[name] for name, text in PRECISION.items() if name in loss})
    return lines + format_tried(loss.get("tried", []))


def format_tried(tried: list[dict[str, Any]]) -> list[str]:
    """The candidates as a table, each with the bounds that it missed."""
    if not tried:
        return []
    headings = [heading for heading, _ in TRIED.values()]
    lines = ["", "`--precision auto` tried:", ""]
    lines.append(f"| candidate | {' | '.join(headings)} | misses |")
    lines.append("|---|" + "--:|" * len(TRIED) + "---|")
    for row in tried:
        cells = [form.format(row[name]) for name, (_, form) in TRIED.items()]
        missed = ", ".join(row["missed"]) or "nothing"
        lines.append(f"| {row['candidate']} | {' | '.join(cells)} | {missed} |")
    return lines
