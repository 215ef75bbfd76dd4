"""What the tensors of a graph hold on real pictures, and the ranges that 8 bits shall cover.

One pass over the pictures keeps the smallest and largest value of each tensor, a sample of the
values between, and the means of the channels. Knows nothing of how a graph is quantized.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from training.graph.session import make_session
from training.imaging.preprocessing import Pixels

CALIBRATION_PICTURES = 256  # at most
BATCH = 8  # all tensors of a batch are in memory at once
SAMPLED = 1024  # values per picture and tensor
SHRINKS = np.linspace(0.2, 1, 33)  # of a range, to find the one with the least rounding error
STEPS = 255  # of 8 bits

Range = tuple[float, float]


@dataclass(frozen=True)
class Activations:
    """The values of one tensor on each picture."""

    low: NDArray[np.float32]  # (N,)
    high: NDArray[np.float32]  # (N,)
    sample: NDArray[np.float32]  # (N, S)
    means: NDArray[np.float32]  # (N, channels)

    def first(self, pictures: int) -> "Activations":
        """The same of fewer pictures."""
        parts = (self.low, self.high, self.sample, self.means)
        return Activations(*(part[:pictures] for part in parts))


def choose_calibration_pictures(pictures: Pixels) -> Pixels:
    """At most `CALIBRATION_PICTURES`, spread over all of them."""
    return pictures[:: max(len(pictures) // CALIBRATION_PICTURES, 1)][:CALIBRATION_PICTURES]


def record_activations(body: onnx.ModelProto, pictures: Pixels) -> dict[str, Activations]:
    """Run the pictures (N, H, W, C) and keep what each float tensor of the graph holds."""
    whole = onnx.ModelProto()
    whole.CopyFrom(body)
    names = list_float_tensors(body)
    del whole.graph.output[:]
    whole.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    session = make_session(whole, 0)
    kept: dict[str, list[Activations]] = {name: [] for name in names}
    for start in range(0, len(pictures), BATCH):
        found = session.run(names, {"image": pictures[start : start + BATCH]})
        for name, values in zip(names, found, strict=True):
            kept[name].append(summarize(values))
    return {name: join(parts) for name, parts in kept.items()}


def list_float_tensors(body: onnx.ModelProto) -> list[str]:
    """The names of all tensors of 32 bits that a node makes."""
    graph = onnx.shape_inference.infer_shapes(body).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    outputs = [output for node in graph.node for output in node.output]
    return [name for name in outputs if kinds.get(name) == TensorProto.FLOAT]


def summarize(values: NDArray[np.float32]) -> Activations:
    """Of one tensor (N, …), whose second axis are the channels if it has four."""
    flat = values.reshape(len(values), -1)  # (N, V)
    places = np.random.default_rng(0).integers(0, flat.shape[1], SAMPLED)
    means = values.mean((2, 3)) if values.ndim == 4 else flat[:, :0]
    return Activations(flat.min(1), flat.max(1), flat[:, places], means)


def join(parts: list[Activations]) -> Activations:
    """The values of all batches."""
    columns = zip(*((p.low, p.high, p.sample, p.means) for p in parts), strict=True)
    return Activations(*(np.concatenate(column) for column in columns))


def take_min_max(values: Activations) -> Range:
    """The range from the smallest to the largest value."""
    return float(values.low.min()), float(values.high.max())


def take_percentile(values: Activations, share: float = 99.99) -> Range:
    """The range without the outer values: those beyond the percentile at each side."""
    low, high = np.percentile(values.sample, (100 - share, share))
    return float(low), float(high)


def take_least_error(values: Activations) -> Range:
    """The range with the least mean square error of rounding to 8 bits, values beyond it included.

    Both ends of the range from the smallest to the largest value shrink by the same factor.
    """
    low, high = (min(values.low.min(), 0), max(values.high.max(), 0))
    sample = values.sample.ravel()
    errors = []
    for shrink in SHRINKS:
        step = max(shrink * (high - low) / STEPS, 1e-12)
        rounded = np.clip(np.rint(sample / step), low * shrink / step, high * shrink / step) * step
        errors.append(float(np.square(rounded - sample).mean()))
    best = SHRINKS[int(np.argmin(errors))]
    return float(low * best), float(high * best)


RANGES: Mapping[str, Callable[[Activations], Range]] = {
    "min-max": take_min_max,
    "percentile": take_percentile,
    "least error": take_least_error,
}


def find_ranges(
    activations: Mapping[str, Activations], method: str, pictures: int
) -> dict[str, Range]:
    """The range of each tensor by one of `RANGES`, from the first pictures."""
    take = RANGES[method]
    return {name: take(values.first(pictures)) for name, values in activations.items()}
