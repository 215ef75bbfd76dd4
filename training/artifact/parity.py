"""Checks an exported graph against eager torch in double precision.

Knows nothing of how the graph was made or where it will be stored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from training.errors import CheckError
from training.gradcam.reference import Method, compute_gradcam, make_exact_copy, use_64_bits
from training.graph.session import open_session, run_for_top1
from training.imaging.preprocessing import GraphOutputs, GraphRunner, Pixels

CASES = ((1, 0), (1, 1), (2, 3), (7, 1), (2, 1), (7, 3), (5, 0))  # (N, T)
LOGITS_TOLERANCE = 1e-4  # over the largest logit
WORST_LOGITS = 1e-2  # the same, where torch in 32 bits is as far from 64 bits
PROBABILITIES_TOLERANCE = 1e-6
CAM_TOLERANCE = 1e-4  # over the largest value of the map
ROWS_TOLERANCE = 1e-5  # between a row alone and the same row in a batch
SHAPES: dict[str, tuple[Any, ...]] = {
    "image": ("N", int, int, int),
    "target": ("N", "T"),
    "logits": ("N", int),
    "probabilities": ("N", int),
    "cam": ("N", "T", int, int),
}
CHECKED = ("logits", "logits_torch", "probabilities", "cam", "cam_torch", "rows")


def check_parity(
    proto: onnx.ModelProto,
    plain: onnx.ModelProto,
    model: nn.Module,
    layer: nn.Module,
    pictures: Pixels,  # (N, H, W, C)
    method: Method = "gradcam",
) -> dict[str, Any]:
    """Run every check; returns the worst deviations for the card.

    Raises:
        CheckError: a check failed; the message names it.
    """
    check_signature(proto)
    run, run_plain = open_session(proto), open_session(plain)
    reference = Reference.of(model, layer, method)
    classes = run_for_top1(run, pictures[:1], 0)[0].shape[1]
    rng = np.random.default_rng(0)
    deviations = Deviations()
    for n, t in CASES:
        image = pictures[rng.permutation(max(len(pictures), n))[:n] % len(pictures)]
        target = rng.integers(-1, classes, (n, t))
        if t:
            target[0, 0] = -1
        outputs = run(image, target)
        deviations.record("probabilities", np.abs(outputs[1] - run_plain(image, target)[1]).max())
        compare_with_reference(deviations, outputs, reference, image, target)
        compare_rows(deviations, outputs, run, image, target)
    reject_deviations(deviations)
    return deviations.to_card()


@dataclass(frozen=True)
class Reference:
    """The network in torch, in 32 and in 64 bits, and the method of its maps."""

    model: nn.Module
    layer: nn.Module
    exact: nn.Module
    exact_layer: nn.Module
    method: Method

    @classmethod
    def of(cls, model: nn.Module, layer: nn.Module, method: Method) -> Self:
        exact = make_exact_copy(model)
        name = next(n for n, m in model.named_modules() if m is layer)
        return cls(model, layer, exact, exact.get_submodule(name), method)


@dataclass
class Deviations:
    """The worst deviations so far, and the least cosine between a map and torch's."""

    worst: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CHECKED, 0.0))
    cosine: float = 1.0

    def record(self, name: str, value: Any) -> None:
        """Keep the larger deviation; NaN counts as infinite."""
        value = float(value)
        self.worst[name] = max(self.worst[name], value) if value == value else float("inf")

    def to_card(self) -> dict[str, Any]:
        """The figures for the card's `checks`."""
        return {
            **{name: float(f"{value:.2g}") for name, value in self.worst.items()},
            "cam_cosine": round(self.cosine, 6),
            "cases": [list(case) for case in CASES],
        }


def compare_with_reference(
    deviations: Deviations,
    outputs: GraphOutputs,
    reference: Reference,
    image: Pixels,  # (N, H, W, C)
    target: NDArray[np.int64],  # (N, T)
) -> None:
    """Compare logits and maps with torch in 64 bits, and torch's own maps in 32 bits too."""
    logits, _, cam = outputs
    inputs, method = (torch.from_numpy(image), torch.from_numpy(target)), reference.method
    with use_64_bits():
        truth = compute_gradcam(reference.exact, *inputs, reference.exact_layer, method)
    eager = compute_gradcam(reference.model, *inputs, reference.layer, method)
    n, t = target.shape
    if cam.shape != tuple(truth.cam.shape):
        raise CheckError(
            f"cam has shape {cam.shape} for N={n}, T={t}; it must be {tuple(truth.cam.shape)}."
        )
    expected_logits = truth.logits.numpy()
    largest = np.abs(expected_logits).max()
    deviations.record("logits", np.abs(logits - expected_logits).max() / largest)
    rounded_logits = eager.logits.numpy()
    deviations.record("logits_torch", np.abs(rounded_logits - expected_logits).max() / largest)
    for row, column in np.ndindex(n, t):
        if target[row, column] < 0 and compute_margin(expected_logits[row]) < 1e-4:
            continue  # the two best classes differ by no more than rounding
        expected = truth.cam[row, column].numpy()
        size = max(float(np.abs(expected).max()), 1e-30)
        deviations.record("cam", np.abs(cam[row, column] - expected).max() / size)
        rounded = eager.cam[row, column].numpy()
        deviations.record("cam_torch", np.abs(rounded - expected).max() / size)
        cosine = compute_cosine(cam[row, column], expected)
        deviations.cosine = min(deviations.cosine, cosine)


def compare_rows(
    deviations: Deviations,
    outputs: GraphOutputs,
    run: GraphRunner,
    image: Pixels,  # (N, H, W, C)
    target: NDArray[np.int64],  # (N, T)
) -> None:
    """Compare each row's answer with the answer to that row alone."""
    _, probabilities, cam = outputs
    for row in range(len(image)):
        alone = run(image[row : row + 1], target[row : row + 1])
        deviations.record("rows", np.abs(alone[1][0] - probabilities[row]).max())
        if target.shape[1]:
            size = max(float(np.abs(cam[row]).max()), 1e-30)
            deviations.record("rows", (np.abs(alone[2][0] - cam[row]) / size).max())


def reject_deviations(deviations: Deviations) -> None:
    """Raise CheckError if a deviation exceeds its tolerance."""
    # If rounding flips a ReLU, torch in 32 bits deviates from 64 bits by as much.
    flipped = 3 * deviations.worst["cam_torch"] if deviations.cosine > 0.995 else 0.0
    bounds = {
        "logits": min(max(LOGITS_TOLERANCE, 3 * deviations.worst["logits_torch"]), WORST_LOGITS),
        "probabilities": PROBABILITIES_TOLERANCE,
        "rows": max(ROWS_TOLERANCE, flipped),
        "cam": max(CAM_TOLERANCE, flipped),
    }
    for name, bound in bounds.items():
        if not deviations.worst[name] <= bound:
            raise CheckError(
                f"The exported graph is not exact: {name} deviates by "
                f"{deviations.worst[name]:.2g}, {bound:.2g} is allowed. No file was written."
            )


def check_signature(proto: onnx.ModelProto, shapes: Mapping[str, tuple[Any, ...]] = SHAPES) -> None:
    """Raise CheckError if inputs, outputs, opset, domains or operations break the contract.

    A size of a shape is a number, the name of one that varies, or `int` for any number.
    """
    domains = {(o.domain, o.version) for o in proto.opset_import} | {
        (node.domain, 18) for node in proto.graph.node
    }
    if domains != {("", 18)} or proto.functions:
        raise CheckError(
            f"The graph uses {sorted(domains)}. Only opset 18 of the standard domain is allowed."
        )
    if any(map(scatters_sums, proto.graph.node)):
        raise CheckError(
            "The graph adds values at places by ScatterND. The threads of onnxruntime lose some "
            "where several go to one place. No file was written. Choose a later layer."
        )
    found = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in [*proto.graph.input, *proto.graph.output]
    }
    for name, sizes in shapes.items():
        dims = found.pop(name, [])
        if len(dims) != len(sizes) or not all(map(is_size, dims, sizes)):
            raise CheckError(
                f"{name} has shape {dims}: a size that must vary is fixed, or the reverse."
            )
    if found:
        raise CheckError(
            f"The graph has inputs or outputs that are not allowed: {', '.join(found)}."
        )


def scatters_sums(node: onnx.NodeProto) -> bool:
    """Whether a node adds values at places, in the threads of onnxruntime's ScatterND."""
    return node.op_type == "ScatterND" and any(
        entry.name == "reduction" and entry.s == b"add" for entry in node.attribute
    )


def is_size(found: str | int, expected: object) -> bool:
    """Whether a size is the expected one, or any number where that is `int`."""
    return isinstance(found, int) and found > 0 if expected is int else found == expected


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
