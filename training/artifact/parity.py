"""Checks an exported graph against eager torch in double precision.

Knows nothing of how the graph was made or where it will be stored.
"""

import copy
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from training.errors import CheckError
from training.gradcam.reference import compute_gradcam
from training.graph.session import open_session, run_for_top1
from training.imaging.preprocessing import Pixels

CASES = ((1, 0), (1, 1), (2, 3), (7, 1), (2, 1), (7, 3), (5, 0))  # (N, T)
LOGITS_TOLERANCE = 1e-4  # over the largest logit
PROBABILITIES_TOLERANCE = 1e-6
CAM_TOLERANCE = 1e-4  # over the largest value of the map
ROWS_TOLERANCE = 1e-5  # between a row alone and the same row in a batch


def check_parity(
    proto: onnx.ModelProto,
    plain: onnx.ModelProto,
    model: nn.Module,
    layer: nn.Module,
    pictures: Pixels,  # (N, H, W, C)
) -> dict[str, Any]:
    """Run every check; returns the worst deviations for the card.

    Raises:
        CheckError: a check failed; the message names it.
    """
    check_signature(proto)
    run, run_plain = open_session(proto), open_session(plain)
    exact = copy.deepcopy(model).double()
    exact_layer = exact.get_submodule(next(n for n, m in model.named_modules() if m is layer))
    classes = run_for_top1(run, pictures[:1], 0)[0].shape[1]
    rng = np.random.default_rng(0)
    worst = {"logits": 0.0, "probabilities": 0.0, "cam": 0.0, "cam_torch": 0.0, "rows": 0.0}
    likeness = 1.0
    for n, t in CASES:
        image = pictures[rng.permutation(max(len(pictures), n))[:n] % len(pictures)]
        target = rng.integers(-1, classes, (n, t))
        if t:
            target[0, 0] = -1
        logits, probabilities, cam = run(image, target)
        inputs = torch.from_numpy(image), torch.from_numpy(target)
        truth = compute_gradcam(exact, *inputs, exact_layer)
        eager = compute_gradcam(model, *inputs, layer)
        if cam.shape != tuple(truth.cam.shape):
            raise CheckError(
                f"cam has shape {cam.shape} for N={n}, T={t}; it must be {tuple(truth.cam.shape)}."
            )
        expected_logits = truth.logits.numpy()
        record_worst(
            worst, "logits", np.abs(logits - expected_logits).max() / np.abs(expected_logits).max()
        )
        record_worst(
            worst, "probabilities", np.abs(probabilities - run_plain(image, target)[1]).max()
        )
        for row, column in np.ndindex(n, t):
            if target[row, column] < 0 and compute_margin(expected_logits[row]) < 1e-4:
                continue  # the two best classes differ by no more than rounding
            expected = truth.cam[row, column].numpy()
            size = max(float(np.abs(expected).max()), 1e-30)
            record_worst(worst, "cam", np.abs(cam[row, column] - expected).max() / size)
            rounded = eager.cam[row, column].numpy()
            record_worst(worst, "cam_torch", np.abs(rounded - expected).max() / size)
            likeness = min(likeness, compute_cosine(cam[row, column], expected))
        for row in range(n):
            alone = run(image[row : row + 1], target[row : row + 1])
            size = max(float(np.abs(cam[row]).max()), 1e-30) if t else 1.0
            record_worst(worst, "rows", np.abs(alone[1][0] - probabilities[row]).max())
            record_worst(worst, "rows", (np.abs(alone[2][0] - cam[row]) / size).max() if t else 0.0)
    reject_deviations(worst, likeness)
    figures: dict[str, Any] = {name: float(f"{value:.2g}") for name, value in worst.items()}
    figures["cam_cosine"] = round(likeness, 6)
    figures["cases"] = [list(case) for case in CASES]
    return figures


def reject_deviations(worst: dict[str, float], likeness: float) -> None:
    """Raise CheckError if a deviation exceeds its tolerance."""
    bounds = {
        "logits": LOGITS_TOLERANCE,
        "probabilities": PROBABILITIES_TOLERANCE,
        "rows": ROWS_TOLERANCE,
    }
    # If rounding flips a ReLU, torch in 32 bits deviates from 64 bits by as much.
    torn = 3 * worst["cam_torch"] if likeness > 0.995 else 0.0
    bounds["cam"] = max(CAM_TOLERANCE, torn)
    bounds["rows"] = max(ROWS_TOLERANCE, torn)
    for name, bound in bounds.items():
        if not worst[name] <= bound:
            raise CheckError(
                f"The exported graph is not exact: {name} deviates by {worst[name]:.2g}, "
                f"{bound:.2g} is allowed. No file was written."
            )


def check_signature(proto: onnx.ModelProto) -> None:
    """Raise CheckError if inputs, outputs, opset or domains break the contract."""
    domains = {(o.domain, o.version) for o in proto.opset_import} | {
        (node.domain, 18) for node in proto.graph.node
    }
    if domains != {("", 18)} or proto.functions:
        raise CheckError(
            f"The graph uses {sorted(domains)}. Only opset 18 of the standard domain is allowed."
        )
    found = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*proto.graph.input, *proto.graph.output]
    }
    expected_shapes = {
        "image": ("N", int, int, int),
        "target": ("N", "T"),
        "logits": ("N", int),
        "probabilities": ("N", int),
        "cam": ("N", "T", int, int),
    }
    for name, sizes in expected_shapes.items():
        dims = found.pop(name, [])
        if len(dims) != len(sizes) or any(
            d != s if isinstance(s, str) else not isinstance(d, s) or not d
            for d, s in zip(dims, sizes, strict=False)
        ):
            raise CheckError(
                f"{name} has shape {dims}: a size that must vary is fixed, or the reverse."
            )
    if found:
        raise CheckError(
            f"The graph has inputs or outputs that are not allowed: {', '.join(found)}."
        )


def record_worst(worst: dict[str, float], name: str, value: Any) -> None:
    """Keep the larger deviation; NaN counts as infinite."""
    value = float(value)
    worst[name] = max(worst[name], value) if value == value else float("inf")


def compute_margin(logits: NDArray[np.float64]) -> float:
    """The lead of the top-1 over the second logit, as a share of the largest |logit|."""
    if len(logits) < 2:
        return 1.0
    second, first = np.sort(logits)[-2:]
    return float((first - second) / max(np.abs(logits).max(), 1e-30))


def compute_cosine(a: NDArray[Any], b: NDArray[Any]) -> float:
    """The cosine between two maps; 1 if both are zero."""
    a, b = a.ravel().astype(float), b.ravel().astype(float)
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size else float(not a.any() and not b.any())
