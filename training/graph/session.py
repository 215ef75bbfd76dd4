"""An ONNX graph on onnxruntime: one pass, and how long a pass takes.

Knows nothing of how the graph was made.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from training.errors import CheckError
from training.imaging.preprocessing import GraphOutputs, GraphRunner, Pixels

# A graph of masks, given pictures, targets (N, T) and regions (N, T, 5).
MaskRunner = Callable[[Pixels, NDArray[np.int64], NDArray[np.int64]], list[NDArray[Any]]]
FAMILIARITY = "familiarity"  # an output that a graph may have
TIMED_PICTURES = 8  # pictures per batch


def open_session(
    proto: onnx.ModelProto, threads: int = 0, outputs: Sequence[str] | None = None
) -> GraphRunner:
    """The graph on onnxruntime's CPU provider. A graph without `target` ignores the targets.

    A pass returns `outputs`, by default all but `familiarity`.

    Raises:
        CheckError: onnxruntime rejects the graph, or, in a pass, the number of pictures or targets.
    """
    session = make_session(proto, threads)
    names = [value.name for value in session.get_inputs()]
    wanted = outputs or [v.name for v in session.get_outputs() if v.name != FAMILIARITY]

    def run(image: Pixels, target: NDArray[np.int64]) -> GraphOutputs:
        feed = {"image": image, "target": target}
        with explain_run_errors(image, target):
            answer: GraphOutputs = session.run(wanted, {name: feed[name] for name in names})
        return answer

    return run


def make_session(proto: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    """The graph on onnxruntime's CPU provider; CheckError if onnxruntime rejects it."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise CheckError(f"onnxruntime rejects the graph. No file was written. {error}") from error


@contextmanager
def explain_run_errors(image: Pixels, target: NDArray[np.int64]) -> Iterator[None]:
    """Say in a sentence on which sizes the graph does not run."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise CheckError(
            f"The graph does not run on {len(image)} pictures with {target.shape[1]} targets "
            "each: a size that must vary is fixed in it. No file was written. "
            "Choose another layer."
        ) from error


def open_mask_session(proto: onnx.ModelProto, threads: int = 0) -> MaskRunner:
    """The same for a graph of masks: mask, probabilities and cam. Without `cam` no T is needed."""
    session = make_session(proto, threads)
    names = [value.name for value in session.get_inputs()]

    def run(
        image: Pixels, target: NDArray[np.int64], region: NDArray[np.int64]
    ) -> list[NDArray[Any]]:
        feed = {"image": image, "target": target, "region": region}
        with explain_run_errors(image, target):
            answer: list[NDArray[Any]] = session.run(None, {name: feed[name] for name in names})
        return answer

    return run


def run_for_top1(run: GraphRunner, image: Pixels, targets: int) -> GraphOutputs:
    """One pass in which each of `targets` targets per picture is its top-1."""
    return run(image, np.full((len(image), targets), -1, np.int64))


def measure_cost(
    proto: onnx.ModelProto,
    plain: onnx.ModelProto,
    pictures: Pixels,
    seconds: float = 0.5,
) -> dict[str, float]:
    """Milliseconds per picture on one thread, without and with an explanation."""
    a, b = measure_latencies([open_session(plain, 1), open_session(proto, 1)], pictures, seconds)
    return {"plain_ms": round(a, 4), "explained_ms": round(b, 4), "ratio": round(b / a, 3)}


def measure_mask_cost(
    proto: onnx.ModelProto, plain: onnx.ModelProto, pictures: Pixels, seconds: float = 0.5
) -> dict[str, float]:
    """Milliseconds per picture on one thread: plain, with one target, and with none as a ratio."""
    count = 2  # pictures per batch: a mask costs much more than a class
    height, width = pictures.shape[1:3]
    image = np.resize(pictures[:count], (count, *pictures.shape[1:]))
    target = np.full((count, 1), -1, np.int64)
    region = np.tile(np.array([-1, 0, 0, width, height]), (count, 1, 1))
    run, run_plain = open_mask_session(proto, 1), open_mask_session(plain, 1)
    plain_ms, ms, none_ms = (
        1000 * spent / count
        for spent in time_alternately(
            [
                lambda: run_plain(image, target, region),
                lambda: run(image, target, region),
                lambda: run(image, target[:, :0], region[:, :0]),
            ],
            seconds,
        )
    )
    return {
        "plain_ms": round(plain_ms, 4),
        "explained_ms": round(ms, 4),
        "ratio": round(ms / plain_ms, 3),
        "without_targets": round(none_ms / plain_ms, 3),
    }


def measure_latencies(
    runs: Sequence[GraphRunner], pictures: Pixels, seconds: float = 0.5
) -> list[float]:
    """Median milliseconds per picture with one target, of graphs that run alternately."""
    image = np.resize(pictures[:TIMED_PICTURES], (TIMED_PICTURES, *pictures.shape[1:]))
    target = np.full((TIMED_PICTURES, 1), -1, np.int64)
    calls = [lambda run=run: run(image, target) for run in runs]
    return [1000 * spent / TIMED_PICTURES for spent in time_alternately(calls, seconds)]


def time_alternately(calls: Sequence[Callable[[], object]], seconds: float) -> list[float]:
    """The median seconds of each call, five calls of each at least."""
    timings: list[list[float]] = [[] for _ in calls]
    end = time.monotonic() + seconds
    while len(timings[0]) < 5 or time.monotonic() < end:
        for times, call in zip(timings, calls, strict=True):
            started = time.perf_counter()
            call()
            times.append(time.perf_counter() - started)
    return [float(np.median(times[1:])) for times in timings]
