"""An ONNX graph on onnxruntime: one pass, and how long a pass takes.

Knows nothing of how the graph was made.
"""

import time
from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from training.errors import CheckError
from training.imaging.preprocessing import GraphOutputs, GraphRunner, Pixels

TIMED_PICTURES = 8  # pictures at once


def open_session(proto: onnx.ModelProto, threads: int = 0) -> GraphRunner:
    """The graph on onnxruntime's CPU; one without an explanation passes over the targets."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        made = ort.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as fault:  # onnxruntime's exceptions share no base of their own
        raise CheckError(f"onnxruntime refuses the graph; nothing was written: {fault}") from fault

    taken = [value.name for value in made.get_inputs()]

    def run(image: Pixels, target: NDArray[np.int64]) -> GraphOutputs:
        feed = {"image": image, "target": target}
        outputs: GraphOutputs = made.run(None, {name: feed[name] for name in taken})
        return outputs

    return run


def run_for_top1(run: GraphRunner, image: Pixels, targets: int) -> GraphOutputs:
    """One pass with the top-1 as every target."""
    return run(image, np.full((len(image), targets), -1, np.int64))


def measure_cost(
    proto: onnx.ModelProto,
    plain: onnx.ModelProto,
    pictures: Pixels,
    seconds: float = 0.5,
) -> dict[str, float]:
    """Milliseconds of a picture on one thread, plain and explained."""
    a, b = measure_latencies([open_session(plain, 1), open_session(proto, 1)], pictures, seconds)
    return {"plain_ms": round(a, 4), "explained_ms": round(b, 4), "ratio": round(b / a, 3)}


def measure_latencies(
    runs: Sequence[GraphRunner], pictures: Pixels, seconds: float = 0.5
) -> list[float]:
    """Milliseconds of a picture with one target by each graph: medians of batches taken in turn."""
    image = np.resize(pictures[:TIMED_PICTURES], (TIMED_PICTURES, *pictures.shape[1:]))
    target = np.full((TIMED_PICTURES, 1), -1, np.int64)
    taken: list[list[float]] = [[] for _ in runs]
    end = time.monotonic() + seconds
    while len(taken[0]) < 5 or time.monotonic() < end:
        for times, run in zip(taken, runs, strict=True):
            begun = time.perf_counter()
            run(image, target)
            times.append(time.perf_counter() - begun)
    return [1000 * float(np.median(times[1:])) / TIMED_PICTURES for times in taken]
