"""Where a model looks over all its traffic: the mean map of each class, the heat at the border.

Only sums are kept, no picture and no single map: in a file for each worker, mapped into memory
beside its metrics, so that whichever worker is asked adds up those of all. Knows arrays and files;
nothing of queues, pictures or HTTP.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import TOP_1, Artifact, MeanMap
from service.artifact.card import Attention as TrainedAttention
from service.imaging.saliency import EMPTY_BELOW
from service.runtime.batcher import Outputs
from service.schemas import AttentionAnswer, AttentionMap, ClassAttention
from service.telemetry.metrics import find_multiprocess_folder

BORDER = 0.1  # of the side, from each edge
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # a histogram's bounds
MAX_BYTES = 16 << 20  # of one worker's sums of one version
DIGITS = 4  # of a figure in the answer
MAPS, BORDER_SHARE, CELLS = 0, 1, 2  # columns: how many maps, sums of shares, sums of cells

Sums = NDArray[np.float64]


def measure_border_weights(height: int, width: int) -> Sums:
    """How much of each cell's area lies within 10 % of the side from any edge: (height, width)."""

    def measure_inside(cells: int) -> Sums:
        edges = np.arange(cells + 1) / cells
        within = np.clip(edges, BORDER, 1 - BORDER)
        return np.diff(within) * cells

    return 1 - np.outer(measure_inside(height), measure_inside(width))


def measure_distance(one: Sums, other: Sums) -> float | None:
    """Half the L1 distance between two maps that each sum to 1: 0 is the same, 1 is disjoint."""
    if not (one.shape == other.shape and one.sum() > 0 and other.sum() > 0):
        return None
    return round(float(np.abs(one / one.sum() - other / other.sum()).sum() / 2), DIGITS)


class Total(NamedTuple):
    """The sums of all workers."""

    buckets: Sums  # (len(SHARES),): maps whose border share lies in each
    sums: Sums  # (R, CELLS + h·w), a row a class; the last one also has the classes without a row


class Attention:
    """One version's sums. `add` is called from the event loop alone."""

    def __init__(self, name: str, version: str, artifact: Artifact) -> None:
        self._artefact = artifact
        height, width = artifact.map_shape
        self._border = measure_border_weights(height, width).ravel()  # (h·w,)
        columns = CELLS + height * width
        rows = min(len(artifact.card.labels), MAX_BYTES // (8 * columns))
        self._shape = (rows, columns)
        self._folder = locate_sums_folder(name, version, artifact.sha256)
        own = map_sums_file(self._folder, len(SHARES) + rows * columns)
        self._buckets, self._sums = self._split(own)

    def add(self, outputs: Outputs, target: NDArray[np.int64], counts: list[bool]) -> None:
        """Take in the map of each row's own top-1, where the pass had it; empty maps are left out.

        `target` (N, T) is what the pass was asked for; rows that don't count are passed over.
        """
        top = outputs.logits.argmax(1)  # (N,)
        own = (target == TOP_1) | (target == top[:, np.newaxis])  # (N, T)
        own[np.logical_not(counts)] = False
        rows = own.any(1).nonzero()[0]  # (M,)
        if not len(rows):
            return
        cam = outputs.cam[rows, own[rows].argmax(1)].reshape(len(rows), -1)  # (M, h·w)
        heat = np.maximum(cam, 0)
        peak = heat.max(1)
        full = peak - heat.min(1) > EMPTY_BELOW * np.maximum(peak, -cam.min(1))
        if not full.all():
            rows, heat, peak = rows[full], heat[full], peak[full]
        values = np.empty((len(rows), self._shape[1]))
        values[:, MAPS] = 1
        values[:, BORDER_SHARE] = share = heat @ self._border / heat.sum(1)
        np.divide(heat, peak[:, np.newaxis], out=values[:, CELLS:])
        np.add.at(self._sums, np.minimum(top[rows], len(self._sums) - 1), values)
        slots = np.minimum(np.searchsorted(SHARES, share), len(SHARES) - 1)
        self._buckets += np.bincount(slots, minlength=len(SHARES))

    def total(self) -> Total:
        """All workers' sums, those of workers that are gone included."""
        if self._folder is None:
            return Total(self._buckets, self._sums)
        return Total(
            *self._split(np.sum([np.fromfile(path) for path in self._folder.iterdir()], axis=0))
        )

    @property
    def reference(self) -> TrainedAttention | None:
        """What the exporter saw on its own pictures, if the card has it."""
        return self._artefact.card.attention

    def describe(self, name: str, version: str) -> AttentionAnswer:
        """What `/models/<name>/attention` says: the mean maps beside those of the training."""
        sums = self.total().sums
        reference = self.reference
        classes: dict[str, ClassAttention] = {}
        labels = self._artefact.card.labels
        for index in np.flatnonzero(sums[:, MAPS]).tolist():
            if index == len(sums) - 1 and len(sums) < len(labels):
                continue  # of several classes
            known = reference.classes.get(labels[index]) if reference else None
            classes[labels[index]] = self._compare(sums[index], known)
        whole = self._compare(sums.sum(0), reference)
        return {"model": name, "version": version, **whole, "classes": classes}

    def _compare(self, row: Sums, reference: MeanMap | None) -> ClassAttention:
        maps = int(row[MAPS])
        mean = (row[CELLS:] / maps).reshape(self._artefact.map_shape) if maps else None
        observed: AttentionMap = {
            "maps": maps,
            "border_share": round(row[BORDER_SHARE] / maps, DIGITS) if maps else None,
            "mean": None if mean is None else mean.round(DIGITS).tolist(),
        }
        if reference is None:
            return {"observed": observed, "reference": None, "distance": None}
        trained: AttentionMap = {
            "maps": reference.count,
            "border_share": reference.border_share,
            "mean": reference.mean,
        }
        distance = None
        if mean is not None and reference.mean is not None:
            distance = measure_distance(mean, np.array(reference.mean))
        return {"observed": observed, "reference": trained, "distance": distance}

    def _split(self, flat: Sums) -> tuple[Sums, Sums]:
        """The buckets and the sums, as views of what lies in one file."""
        return flat[: len(SHARES)], flat[len(SHARES) :].reshape(self._shape)


def locate_sums_folder(name: str, version: str, sha256: str) -> Path | None:
    """Where the workers of one server keep the sums of one version; None for a lonely process."""
    shared = find_multiprocess_folder()
    return shared and shared / "attention" / name / version / sha256[:16]


def map_sums_file(folder: Path | None, length: int) -> Sums:
    """So many zeros, or what an earlier worker of this number left; on disk if there is a folder.

    Pages that are never touched take no memory.
    """
    if folder is None:
        return np.zeros(length)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / str(os.getpid())
    if not path.exists():
        part = folder.with_name(f"{folder.name}-{path.name}.part")
        with part.open("wb") as file:
            file.truncate(length * 8)
        part.rename(path)
    return np.asarray(np.memmap(path, np.float64, "r+", shape=(length,)))
