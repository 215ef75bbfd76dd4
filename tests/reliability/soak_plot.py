"""Draws memory, descriptors, threads and latency over an hour, and computes their slopes."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

from tests.reliability.servers import SIGHTGLASS, SUBJECTS
from tests.reliability.soak import read_samples

WARM_SECONDS = 300.0  # slopes start after this time
COLOURS = {SIGHTGLASS: "#0b6e99", "stock": "#c2571a"}
NAMES = {SIGHTGLASS: "Sightglass", "stock": "stock BentoML"}
MEGABYTE = 1 << 20


def summarise(reports: Path, picture: Path) -> str:
    """Return a table of the available soaks, and draw `picture`."""
    soaks = {
        subject: list(read_samples(reports / f"soak-{subject}.jsonl"))
        for subject in SUBJECTS
        if (reports / f"soak-{subject}.jsonl").exists()
    }
    draw(soaks, picture)
    return "\n".join(summarise_subject(subject, samples) for subject, samples in soaks.items())


def summarise_subject(subject: str, samples: list[dict[str, Any]]) -> str:
    """Return one subject's figures."""
    seconds = np.array([sample["second"] for sample in samples])
    warm = seconds >= min(WARM_SECONDS, seconds[-1] / 2)

    def slope(name: str) -> float:
        """Return the growth per hour of the fitted line after the warm-up."""
        values = np.array([sample[name] for sample in samples], np.float64)
        return float(np.polyfit(seconds[warm] / 3600, values[warm], 1)[0])

    surprises: dict[str, int] = {}
    for sample in samples:
        for what, times in sample["surprises"].items():
            surprises[what] = surprises.get(what, 0) + times
    slowness = find_slowness(samples)
    third = len(slowness) // 3
    drift = np.nanmedian(slowness[-third:]) / np.nanmedian(slowness[:third])
    cpu = (samples[-1]["cpu_seconds"] - samples[0]["cpu_seconds"]) / (seconds[-1] - seconds[0])
    return (
        f"{NAMES[subject]}: {seconds[-1] / 60:.0f} min, {sum(s['answered'] for s in samples)} "
        f"answered as they should be, otherwise: {surprises or 'none'}; "
        f"memory {samples[0]['rss'] / MEGABYTE:.0f} to {samples[-1]['rss'] / MEGABYTE:.0f} MB "
        f"({slope('rss') / MEGABYTE:+.1f} MB/h), descriptors {slope('descriptors'):+.1f}/h, "
        f"threads {slope('threads'):+.1f}/h, median latency of the last third {drift:.2f} times "
        f"that of the first; {cpu:.0%} of a core"
    )


def find_slowness(samples: list[dict[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the median seconds of a photograph in each sample."""
    return np.array([sample["median_seconds"].get("photograph", np.nan) for sample in samples])


def draw(soaks: dict[str, list[dict[str, Any]]], picture: Path) -> None:
    """Draw four panels with one line per subject."""
    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(4, 1, figsize=(8, 9), sharex=True, layout="constrained")
    for subject, samples in soaks.items():
        minutes = [sample["second"] / 60 for sample in samples]
        look = {"color": COLOURS[subject], "label": NAMES[subject], "linewidth": 1.2}
        axes[0].plot(minutes, [sample["rss"] / MEGABYTE for sample in samples], **look)
        axes[1].plot(minutes, [sample["descriptors"] for sample in samples], **look)
        axes[2].plot(minutes, [sample["threads"] for sample in samples], **look)
        axes[3].plot(minutes, 1000 * find_slowness(samples), **look)
    some = next(iter(soaks.values()))
    axes[3].plot(
        [sample["second"] / 60 for sample in some],
        [1000 * sample["calibration"] for sample in some],
        color="0.6",
        linewidth=0.8,
        label="one JPEG decoded by the client: how busy the machine was",
    )
    titles = (
        "Memory of the workers, MB",
        "File descriptors",
        "Threads",
        "A photograph, ms (median)",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    axes[0].set_ylim(bottom=0)
    axes[1].set_ylim(bottom=0)
    axes[2].set_ylim(bottom=0)
    axes[3].set_yscale("log")
    axes[0].legend(frameon=False)
    axes[3].legend(frameon=False, fontsize=8)
    axes[3].set_xlabel("minutes")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)
    pyplot.close(figure)
