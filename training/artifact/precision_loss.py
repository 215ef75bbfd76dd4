"""The loss of a lower precision: a graph is compared with fp32, and rejected if it loses too much.

`w16` stores weights in 16 bits and computes in 32. `fp16` computes in 16 bits, for GPUs. `int8`
computes in 8 bits, with ranges calibrated on real pictures. Knows nothing of torch, cards or how
the precision is lowered.
"""

from typing import Any

import onnx

from training.artifact.fidelity import collect_answers, compare_answers
from training.data.datasets import Split
from training.errors import CheckError
from training.graph.session import measure_latencies, open_session
from training.imaging.preprocessing import Pixels

EXACT_PRECISIONS = ("fp32", "w16")  # torch gives the same numbers
ALLOWED_LOSSES = {  # (largest loss in points of accuracy, smallest mean cosine of the maps)
    "w16": (0.1, 0.999),
    "fp16": (0.1, 0.999),
    "int8": (0.5, 0.97),
}


def compare_precisions(
    full: onnx.ModelProto, small: onnx.ModelProto, precision: str, test: Split | Pixels
) -> dict[str, Any]:
    """Compare accuracy, maps and speed. Without labels, fp32's answers count as the truth.

    Raises:
        CheckError: the loss exceeds `ALLOWED_LOSSES`.
    """
    pictures, labels = (test.pictures, test.labels) if isinstance(test, Split) else (test, None)
    runs = open_session(full), open_session(small)
    expected = collect_answers(runs[0], pictures)
    found = collect_answers(runs[1], pictures, expected.targets)
    full_ms, small_ms = measure_latencies(runs, pictures)
    figures = {
        "precision": precision,
        **compare_answers(expected, found, labels),
        "cpu_speed": round(full_ms / small_ms, 2),
    }
    reject_loss(figures)
    return figures


def describe_loss(figures: dict[str, Any]) -> str:
    """The comparison in one line."""
    return (
        f"{figures['precision']}: {figures['accuracy_points']:+.2f} points of accuracy on "
        f"{figures['pictures']} pictures, cosine of the maps {figures['cam_cosine']:.4f}, "
        f"{figures['cpu_speed']:.2f} times fp32's speed on this CPU"
    )


def reject_loss(figures: dict[str, Any]) -> None:
    """Raise CheckError if the loss is larger than allowed."""
    precision, pictures = figures["precision"], figures["pictures"]
    points, cosine = ALLOWED_LOSSES[precision]
    if figures["accuracy_points"] < -points:
        raise CheckError(
            f"{precision} loses {-figures['accuracy_points']:.2f} points of accuracy on {pictures} "
            f"pictures, {points} are allowed. No file was written."
        )
    if not figures["cam_cosine"] >= cosine:
        raise CheckError(
            f"{precision} changes the maps too much: their cosine with fp32's is "
            f"{figures['cam_cosine']:.4f}, it must be at least {cosine}. No file was written."
        )


def extract_prediction_graph(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph without its explanation, as the baseline of the explanation's cost."""
    inferred = onnx.shape_inference.infer_shapes(proto)
    return onnx.utils.Extractor(inferred).extract_model(["image"], ["logits", "probabilities"])
