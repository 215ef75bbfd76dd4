"""Where a model looks over all its traffic: the mean map of each class, the share at the border.

It keeps sums only, no image and no single map. Each worker has a file of sums next to its metrics,
mapped into memory. Any worker can add up the files of all. Knows arrays and files, but no queues,
images or HTTP.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import AS_TARGET, TOP_1, Artifact, MeanMap
from service.artifact.card import Attention as TrainedAttention
from service.imaging.mask import find_largest
from service.imaging.saliency import EMPTY_BELOW
from service.runtime.engine import AnyOutputs, MaskOutputs
from service.telemetry.shared import SHARING, extend, find_multiprocess_folder, report_no_room

BORDER = 0.1  # of a side, from each edge
SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # upper bounds of a histogram
MAX_BYTES = 16 << 20  # for the sums of one version in one worker
VALUE_BYTES = 24  # of a cell in the answer, while it is made: its sum, its mean, and twice as text
REFERENCE_BYTES = 4  # of a byte of the card, which has the maps of the export as text
DIGITS = 4  # after the decimal point in the answer
MAPS, BORDER_SHARE, CELLS = 0, 1, 2  # columns: number of maps, sum of border shares, sums of cells

Sums = NDArray[np.float64]


def measure_border_weights(height: int, width: int) -> Sums:
    """Return the share of each cell's area within 10 % of a side from any edge: (height, width)."""

    def measure_inside(cells: int) -> Sums:
        edges = np.arange(cells + 1) / cells
        within = np.clip(edges, BORDER, 1 - BORDER)
        return np.diff(within) * cells

    return 1 - np.outer(measure_inside(height), measure_inside(width))


def measure_distance(one: Sums, other: Sums) -> float | None:
    """Return half the L1 distance of two maps scaled to sum 1: 0 is equal, 1 is disjoint."""
    if not (one.shape == other.shape and one.sum() > 0 and other.sum() > 0):
        return None
    return round(float(np.abs(one / one.sum() - other / other.sum()).sum() / 2), DIGITS)


class Total(NamedTuple):
    """The sums of all workers."""

    buckets: Sums  # (len(SHARES),): number of maps in each bucket of border shares
    sums: (
        Sums  # (R, CELLS + h·w), one row per class; the last row also has the classes without a row
    )


class Observation(NamedTuple):
    """The mean of `maps` maps, each divided by its own peak; None if there is no map."""

    maps: int
    border_share: float | None
    mean: Sums | None  # (h, w)


class Comparison(NamedTuple):
    """Maps of this service and those of the export, which may be missing."""

    observed: Observation
    reference: Observation | None
    distance: float | None


class Report(NamedTuple):
    """The maps of all pictures, and those of each predicted label, which are made one by one."""

    whole: Comparison
    classes: Iterator[tuple[str, Comparison]]


class Attention:
    """The sums of one version. Only the event loop calls `add`."""

    def __init__(self, name: str, version: str, artifact: Artifact) -> None:
        self._artifact = artifact
        height, width = artifact.map_shape
        border = measure_border_weights(height, width).ravel()  # (h·w,)
        self._border = border.astype(np.float32)
        columns = CELLS + height * width
        rows = min(len(artifact.card.labels), MAX_BYTES // (8 * columns))
        self._shape = (rows, columns)
        self._path = locate_sums_file(name, version, artifact.sha256)
        self._own = self._open(len(SHARES) + rows * columns)
        self._buckets, self._sums = self._split(self._own)

    def add(self, outputs: AnyOutputs, target: NDArray[np.int64], counts: list[bool]) -> None:
        """Add the map of each row's own top-1, if the batch has it. Empty maps are left out.

        `target` (N, T) holds the targets of the batch. `counts` says which rows count. A model that
        segments answers with several classes: those asked for in the whole picture are added.
        """
        if isinstance(outputs, MaskOutputs):
            self._add_classes(outputs, target, counts)
            return
        top = outputs.logits.argmax(1)  # (N,)
        own = (target == TOP_1) | (target == top[:, np.newaxis])  # (N, T)
        own[np.logical_not(counts)] = False
        rows = own.any(1).nonzero()[0]  # (M,)
        if len(rows):
            self._add_maps(outputs.cam[rows, own[rows].argmax(1)], top[rows])

    def _add_classes(
        self, outputs: MaskOutputs, target: NDArray[np.int64], counts: list[bool]
    ) -> None:
        """Add the map of each class for its own pixels; `target` (N, T, 6)."""
        card = self._artifact.card
        own = (target[..., 1] == AS_TARGET) | (target[..., 1] == target[..., 0])  # (N, T)
        whole = (target[..., 2:] == (0, 0, card.input.width, card.input.height)).all(-1)
        found: dict[tuple[int, int], NDArray[np.float32]] = {}  # by row and class
        for row, place in np.argwhere(own & whole & np.array(counts)[:, np.newaxis]).tolist():
            index = int(target[row, place, 0])
            if index == TOP_1:
                index = find_largest(outputs.mask[row], len(card.labels), card.background)
            found[row, index] = outputs.cam[row, place]
        if found:
            self._add_maps(np.stack([*found.values()]), np.array([index for _, index in found]))

    def _add_maps(self, cams: NDArray[np.float32], classes: NDArray[np.integer[Any]]) -> None:
        """Add maps (M, h, w) to the sums of their classes (M,)."""
        if not len(self._sums):  # a single map may already be too large
            return
        cam = cams.reshape(len(cams), -1)  # (M, h·w)
        heat = np.maximum(cam, 0)
        peak = heat.max(1)
        full = peak - heat.min(1) > EMPTY_BELOW * np.maximum(peak, -cam.min(1))
        if not full.all():
            classes, heat, peak = classes[full], heat[full], peak[full]
        share = heat @ self._border / heat.sum(1)
        heat /= peak[:, np.newaxis]
        rows = np.minimum(classes, len(self._sums) - 1).tolist()
        for row, own, part in zip(rows, heat, share.tolist(), strict=True):
            sums = self._sums[row]  # `np.add.at` would take 100 times as long for large maps
            sums[MAPS] += 1
            sums[BORDER_SHARE] += part
            sums[CELLS:] += own
        slots = np.minimum(np.searchsorted(SHARES, share), len(SHARES) - 1)
        self._buckets += np.bincount(slots, minlength=len(SHARES))

    def total(self) -> Total:
        """Return the sums of all workers, including those that ended."""
        total = self._own.copy()
        if self._path is not None and self._path.exists():
            with contextlib.suppress(FileNotFoundError):  # the version is being discarded
                for path in self._path.parent.iterdir():
                    if path != self._path:
                        total += np.fromfile(path)
        return Total(*self._split(total))

    def discard(self) -> None:
        """Remove this worker's file, because the version is served no longer."""
        if self._path is None:
            return
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # another worker has a file there, or has removed it
            for folder in self._path.parents[:3]:  # of the content, the version and the name
                folder.rmdir()

    @property
    def reference(self) -> TrainedAttention | None:
        """Return the mean maps of the export, if the card has them."""
        return self._artifact.card.attention

    def count_answer_bytes(self) -> int:
        """Return at least the bytes that the answer takes while it is made."""
        card = len(self._artifact.public_card) if self.reference else 0
        return VALUE_BYTES * self._sums.size + REFERENCE_BYTES * card

    def describe(self) -> Report:
        """Compare the mean maps of the traffic with those of the export."""
        sums = self.total().sums
        whole = self._compare(sums.sum(0), self.reference)
        return Report(whole, self._compare_classes(sums))

    def _compare_classes(self, sums: Sums) -> Iterator[tuple[str, Comparison]]:
        reference, labels = self.reference, self._artifact.card.labels
        for index in np.flatnonzero(sums[:, MAPS]).tolist():
            if index == len(sums) - 1 and len(sums) < len(labels):
                continue  # this row belongs to several classes
            known = reference.classes.get(labels[index]) if reference else None
            yield labels[index], self._compare(sums[index], known)

    def _compare(self, row: Sums, reference: MeanMap | None) -> Comparison:
        maps, share, mean = int(row[MAPS]), None, None
        if maps:
            share = round(row[BORDER_SHARE] / maps, DIGITS)
            mean = (row[CELLS:] / maps).reshape(self._artifact.map_shape)
        observed = Observation(maps, share, None if mean is None else mean.round(DIGITS))
        if reference is None:
            return Comparison(observed, None, None)
        trained = None if reference.mean is None else np.array(reference.mean)
        distance = None
        if mean is not None and trained is not None:
            distance = measure_distance(mean, trained)
        known = Observation(reference.count, reference.border_share, trained)
        return Comparison(observed, known, distance)

    def _open(self, length: int) -> Sums:
        """Return the sums to add to: this worker's file, or its own memory without room for one."""
        if self._path is not None:
            try:
                return map_sums_file(self._path, length)
            except OSError as exc:
                self._path = None
                report_no_room(f"the mean maps of a version are not shared: {exc}")
        return np.zeros(length)

    def _split(self, flat: Sums) -> tuple[Sums, Sums]:
        """Return buckets and sums as views of the content of one file."""
        return flat[: len(SHARES)], flat[len(SHARES) :].reshape(self._shape)


def locate_sums_file(name: str, version: str, sha256: str) -> Path | None:
    """Return the path of this worker's sums of one version; None for a single process."""
    shared = find_multiprocess_folder()
    if shared is None or SHARING.slot is None:
        return None
    return shared / "attention" / name / version / sha256[:16] / str(SHARING.slot)


def map_sums_file(path: Path, length: int) -> Sums:
    """Return `length` zeros, or the sums of an earlier worker with these files.

    They are in a file whose blocks are on the disk: writing to a page without one ends the process.

    Raises:
        OSError: there is no room for the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        part = path.parent.with_name(f"{path.parent.name}-{path.name}.part")
        try:
            with part.open("wb") as file:
                extend(file.fileno(), length * 8)
            part.rename(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    return np.asarray(np.memmap(path, np.float64, "r+", shape=(length,)))
