"""Finds the fastest graph in 8 bits whose answers stay within bounds on held-out pictures.

Ranges, and the order in which blocks go back to 32 bits, are chosen on calibration pictures. Each
candidate is then judged by its own graph on onnxruntime, on pictures that calibrate nothing: first
on some of them, and the fastest that stays within the bounds on all. Knows no torch and no cards.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from training.artifact.fidelity import Answers, collect_answers, compare_answers, measure_harm
from training.artifact.precision_bounds import MIN_SPEED, find_missed_bounds
from training.data.datasets import Split
from training.errors import CheckError, UserError
from training.evaluate.metrics import compute_calibration_change
from training.graph.int8.activations import RANGES
from training.graph.int8.candidates import Candidate, CandidateGraphs
from training.graph.int8.processor import has_vnni
from training.graph.openvino import has_openvino, open_in_openvino
from training.graph.session import measure_latencies, open_session
from training.imaging.preprocessing import GraphRunner, Pixels

SECONDS = 240  # after that, no further candidate is made
SENSED = 64  # calibration pictures on which ranges and blocks are compared
SCREENED = 300  # held-out pictures that judge each candidate
JUDGED = 2000  # held-out pictures at most that judge the chosen one
FEW_PICTURES = 64  # on which ranges are found, besides all
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
MIN_SAVED = 0.01  # of the time in 32 bits: less cannot be measured
TIMED_SECONDS = 2.0  # to compare the speed of two graphs
MORE_BITS = 1.05  # times faster, to be taken in spite of the processor that it needs


@dataclass(frozen=True)
class Tried:
    """A candidate, its graph, and its figures on held-out pictures."""

    candidate: Candidate
    proto: onnx.ModelProto
    figures: dict[str, Any]

    @property
    def is_within(self) -> bool:
        return not self.figures["missed"]

    @property
    def rank(self) -> float:
        """The larger, the better: the speed, and less for a file that needs a processor."""
        speed: float = self.figures["cpu_speed"]
        return speed / MORE_BITS if self.candidate.eighth_bit else speed


class Judge:
    """Compares graphs with the one in 32 bits, on labelled pictures."""

    def __init__(self, full: onnx.ModelProto, test: Split) -> None:
        self._test = test
        self._run = open_session(full, 1)
        self._expected = collect_answers(open_session(full), test.pictures)

    def judge(self, proto: onnx.ModelProto) -> dict[str, Any]:
        """The figures of a graph on onnxruntime, and the bounds that it missed."""
        run = open_session(proto, 1)
        full_ms, ms = measure_latencies([self._run, run], self._test.pictures, TIMED_SECONDS)
        figures = self.compare(open_session(proto)) | {"cpu_speed": round(full_ms / ms, 2)}
        return figures | {"missed": find_missed_bounds(figures)}

    def compare(self, run: GraphRunner) -> dict[str, Any]:
        """The figures of a graph, but for its speed."""
        test, expected = self._test, self._expected
        found = collect_answers(run, test.pictures, expected.targets)
        points = compute_calibration_change(
            expected.probabilities, found.probabilities, test.labels
        )
        return compare_answers(expected, found, test.labels) | {"calibration_points": points}


class Sense:
    """What candidates do to the maps of calibration pictures, and how long they take."""

    def __init__(self, full: onnx.ModelProto, graphs: CandidateGraphs) -> None:
        self._graphs = graphs
        self._pictures = graphs.pictures[:SENSED]
        self._expected, self.seconds = self._time(open_session(full), None)

    def measure(self, candidate: Candidate) -> tuple[float, float]:
        """The harm, 0 if all maps are the same, and the seconds of all pictures."""
        run = open_session(self._graphs.make(candidate))
        found, seconds = self._time(run, self._expected.targets)
        return measure_harm(self._expected, found), seconds

    def _time(self, run: GraphRunner, targets: NDArray[np.int64] | None) -> tuple[Answers, float]:
        started = time.perf_counter()
        return collect_answers(run, self._pictures, targets), time.perf_counter() - started


@dataclass(frozen=True)
class Search:
    """What was tried, and the best candidate within the bounds; None: there is none.

    `engines` names the bounds that it missed on each engine: none on onnxruntime.
    """

    tried: list[Tried]
    found: Tried | None = None
    engines: dict[str, list[str]] = field(default_factory=dict)


def find_fast_graph(
    full: onnx.ModelProto, calibration: Pixels, test: Split, say: Callable[[str], None]
) -> Search:
    """Try candidates on some of the pictures of `test`, and judge the best on all of them.

    No candidate is made after `SECONDS`.
    """
    deadline = time.monotonic() + SECONDS
    try:
        graphs = CandidateGraphs(full, calibration)
    except UserError as error:
        say(str(error))
        return Search([])
    judge, tried = Judge(full, spread(test, SCREENED)), list[Tried]()

    def try_candidate(candidate: Candidate) -> Tried:
        proto = graphs.make(candidate)
        tried.append(Tried(candidate, proto, judge.judge(proto)))
        say(describe_tried(tried[-1]))
        return tried[-1]

    plain = Candidate(pictures=len(graphs.pictures))
    if "speed" in try_candidate(plain).figures["missed"]:
        return Search(tried)
    sense = Sense(full, graphs)
    base = choose_ranges(sense, plain.pictures)
    for candidate in list_candidates(base, order_blocks(sense, base, len(graphs.blocks))):
        if time.monotonic() > deadline:
            say(f"{SECONDS} s are over, so no further candidate is tried")
            break
        if try_candidate(candidate).is_within:
            for fewer in list_with_fewer_blocks(candidate, [one.candidate for one in tried]):
                try_candidate(fewer)
            break
        if "speed" in tried[-1].figures["missed"]:
            break
    final = Judge(full, spread(test, JUDGED))
    for best in sorted((t for t in tried if t.is_within), key=lambda t: -t.rank):
        found = replace(best, figures=final.judge(best.proto))
        say(describe_tried(found))
        tried[tried.index(best)] = found
        if found.is_within:
            engines = {ONNXRUNTIME: [], **judge_in_openvino(final, found.proto, say)}
            return Search(tried, found, engines)
    return Search(tried)


def judge_in_openvino(
    judge: Judge, proto: onnx.ModelProto, say: Callable[[str], None]
) -> dict[str, list[str]]:
    """The bounds that a graph misses in OpenVINO; nothing if that is not installed."""
    if not has_openvino():
        return {}
    try:
        figures = judge.compare(open_in_openvino(proto))
    except CheckError as error:
        say(str(error))
        return {OPENVINO: ["it is rejected"]}
    missed = find_missed_bounds(figures | {"cpu_speed": MIN_SPEED})
    say(f"in OpenVINO: {describe_missed(missed)}")
    return {OPENVINO: missed}


def spread(test: Split, count: int) -> Split:
    """At most `count` of the pictures, spread over all of them: they may be sorted by label."""
    if len(test) <= count:
        return test
    return test.select(np.linspace(0, len(test) - 1, count).astype(int))


def choose_ranges(sense: Sense, pictures: int) -> Candidate:
    """The way to find ranges, and whether to correct biases, with the least harm to the maps."""
    ways = [
        Candidate(ranges=ranges, pictures=count, corrected=corrected)
        for ranges in RANGES
        for count in sorted({min(FEW_PICTURES, pictures), pictures})
        for corrected in (False, True)
    ]
    return min(ways, key=lambda way: sense.measure(way)[0])


def order_blocks(sense: Sense, base: Candidate, blocks: int) -> list[int]:
    """The blocks, first the one that harms the maps most for the time that its 8 bits save."""
    every = range(blocks)
    prices = []
    for block in every:
        alone = replace(base, kept=tuple(b for b in every if b != block))
        harm, seconds = sense.measure(alone)
        prices.append(harm / max(sense.seconds - seconds, MIN_SAVED * sense.seconds))
    return sorted(every, key=lambda block: -prices[block])


def list_candidates(base: Candidate, order: list[int]) -> Iterable[Candidate]:
    """With 0, 1, 2 … of the worst blocks in 32 bits, up to half; each with 7- and 8-bit weights."""
    for count in range(len(order) // 2 + 1):
        kept = replace(base, kept=tuple(sorted(order[:count])))
        yield kept
        if has_vnni():
            yield replace(kept, eighth_bit=True)


def list_with_fewer_blocks(candidate: Candidate, tried: list[Candidate]) -> Iterable[Candidate]:
    """A candidate without one of its blocks in 32 bits, which might be enough and faster."""
    for block in candidate.kept:
        fewer = replace(candidate, kept=tuple(b for b in candidate.kept if b != block))
        if fewer not in tried:
            yield fewer


def describe_tried(tried: Tried) -> str:
    """The figures of a candidate in one line."""
    found = tried.figures
    return (
        f"{tried.candidate}: {found['cpu_speed']:.2f} times as fast, "
        f"{found['accuracy_points']:+.2f} points of accuracy on {found['pictures']} pictures, "
        f"cosine of the maps {found['cam_cosine']:.4f} ({found['cam_cosine_worst']:.3f} at least), "
        f"hottest cell {found['cam_pointing_near']:.1%}: "
        f"{describe_missed(found['missed'])}"
    )


def describe_missed(missed: list[str]) -> str:
    """The verdict in a few words."""
    return f"misses {', '.join(missed)}" if missed else "within bounds"
