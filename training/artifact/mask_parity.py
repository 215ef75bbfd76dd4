"""Checks an exported graph of masks against eager torch in double precision.

Knows nothing of how the graph was made or where it will be stored.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from training.artifact.parity import (
    CAM_TOLERANCE,
    CASES,
    PROBABILITIES_TOLERANCE,
    ROWS_TOLERANCE,
    check_signature,
    compute_cosine,
)
from training.errors import CheckError
from training.gradcam.masks.compiler import MaskPlan
from training.gradcam.masks.pixels import ANY_CLASS, TARGET_CLASS
from training.gradcam.masks.reference import MaskQuestion, explain_mask
from training.gradcam.reference import find_layer, make_exact_copy, use_64_bits
from training.graph.session import MaskRunner, open_mask_session
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier

SHAPES: dict[str, tuple[Any, ...]] = {
    "image": ("N", int, int, int),
    "target": ("N", "T"),
    "region": ("N", "T", 5),
    "mask": ("N", int, int),
    "probabilities": ("N", int, int, int),
    "cam": ("N", "T", int, int),
}
REGION_KINDS = ("own class", "other class", "box", "point", "empty")
MARGIN = 1e-4  # of the two largest probabilities: pixels below it may round either way
CHECKED = ("probabilities", "mask", "cam", "cam_torch", "rows", "additivity", "empty")
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """What one pass gets and what it answers."""

    image: Pixels  # (N, H, W, C)
    target: Integers  # (N, T)
    region: Integers  # (N, T, 5)
    mask: Pixels
    probabilities: NDArray[np.float32]
    cam: NDArray[np.float32]


@dataclass
class MaskParity:
    """Compares passes of a graph with torch, and keeps the worst deviations."""

    run: MaskRunner
    run_plain: MaskRunner
    model: Classifier
    plan: MaskPlan
    worst: dict[str, float] = field(default_factory=lambda: dict.fromkeys(CHECKED, 0.0))
    cosine: float = 1.0

    def __post_init__(self) -> None:
        self.exact = make_exact_copy(self.model)
        self.layer = find_layer(self.model.network, self.plan.layer)
        name = next(n for n, m in self.model.named_modules() if m is self.layer)
        self.exact_layer = self.exact.get_submodule(name)

    def record(self, name: str, value: Any) -> None:
        """Keep the larger deviation; NaN counts as infinite."""
        value = float(value)
        self.worst[name] = max(self.worst[name], value) if value == value else float("inf")

    def answer(self, image: Pixels, target: Integers, region: Integers) -> Case:
        return Case(image, target, region, *self.run(image, target, region))

    def compare_with_plain(self, case: Case) -> None:
        """Compare mask and probabilities with the graph without maps."""
        probabilities = self.run_plain(case.image, case.target, case.region)[1]
        self.record("probabilities", np.abs(case.probabilities - probabilities).max())

    def compare_with_torch(self, case: Case) -> None:
        """Compare with torch in 64 bits, and torch's own maps in 32 bits too.

        The pixels whose logits are explained are those of the graph's mask, which may differ from
        torch's where two classes are equal but for rounding.
        """
        inputs = (case.image, case.target, case.region, case.mask)
        question = MaskQuestion(*(torch.from_numpy(values) for values in inputs))
        rest = self.plan.method, self.plan.background
        with use_64_bits():
            truth = explain_mask(self.exact, question, self.exact_layer, *rest)
        eager = explain_mask(self.model, question, self.layer, *rest)
        if case.cam.shape != tuple(truth.cam.shape):
            raise CheckError(
                f"cam has shape {case.cam.shape}; it must be {tuple(truth.cam.shape)}."
            )
        p = truth.logits.softmax(1)
        two = p.topk(2, 1).values  # (N, 2, H, W)
        clear = (two[:, 0] - two[:, 1] >= MARGIN).numpy()
        self.record("mask", (clear & (p.argmax(1).numpy() != case.mask)).sum())
        for row, column in np.ndindex(*case.target.shape):
            expected, found = truth.cam[row, column].numpy(), case.cam[row, column]
            if not truth.pixels[row, column].any():
                self.record("empty", np.abs(found).max())
                continue
            size = max(float(np.abs(expected).max()), 1e-30)
            self.record("cam", np.abs(found - expected).max() / size)
            rounded = eager.cam[row, column].numpy()
            self.record("cam_torch", np.abs(rounded - expected).max() / size)
            self.cosine = min(self.cosine, compute_cosine(found, expected))

    def compare_rows(self, case: Case) -> None:
        """Compare each row's answer with the answer to that row alone."""
        for row in range(len(case.image)):
            part = slice(row, row + 1)
            alone = self.answer(case.image[part], case.target[part], case.region[part])
            self.record("rows", np.abs(alone.probabilities[0] - case.probabilities[row]).max())
            if case.target.shape[1] and np.array_equal(alone.mask[0], case.mask[row]):
                size = max(float(np.abs(case.cam[row]).max()), 1e-30)
                self.record("rows", (np.abs(alone.cam[0] - case.cam[row]) / size).max())

    def compare_halves(self, image: Pixels, classes: int) -> None:
        """Compare a map with the sum of those of the left and the right part of its pixels."""
        height, width = image.shape[1:3]
        n, middle = len(image), width // 3
        boxes = [(0, 0, width, height), (0, 0, middle, height), (middle, 0, width, height)]
        region = np.array([[(ANY_CLASS, *box) for box in boxes]] * n)
        for index in range(min(classes, 3)):
            cam = self.answer(image, np.full((n, 3), index), region).cam
            size = max(float(np.abs(cam).max()), 1e-30)
            self.record("additivity", np.abs(cam[:, 0] - cam[:, 1] - cam[:, 2]).max() / size)

    def reject(self) -> None:
        """Raise CheckError if a deviation exceeds its tolerance."""
        # If rounding flips a ReLU, torch in 32 bits deviates from 64 bits by as much.
        flipped = 3 * self.worst["cam_torch"] if self.cosine > 0.995 else 0.0
        bounds = {
            "probabilities": PROBABILITIES_TOLERANCE,
            "mask": 0.0,
            "cam": max(CAM_TOLERANCE, flipped),
            "rows": max(ROWS_TOLERANCE, flipped),
            "additivity": CAM_TOLERANCE,
            "empty": 0.0,
        }
        for name, bound in bounds.items():
            if not self.worst[name] <= bound:
                raise CheckError(
                    f"The exported graph is not exact: {name} deviates by "
                    f"{self.worst[name]:.2g}, {bound:.2g} is allowed. No file was written."
                )

    def to_card(self) -> dict[str, Any]:
        """The figures for the card's `checks`."""
        return {
            **{name: float(f"{value:.2g}") for name, value in self.worst.items()},
            "cam_cosine": round(self.cosine, 6),
            "cases": [list(case) for case in CASES],
            "regions": list(REGION_KINDS),
        }


def check_mask_parity(
    proto: onnx.ModelProto,
    plain: onnx.ModelProto,
    model: Classifier,
    plan: MaskPlan,
    pictures: Pixels,  # (N, H, W, C)
) -> dict[str, Any]:
    """Run every check; returns the worst deviations for the card.

    Raises:
        CheckError: a check failed; the message names it.
    """
    check_signature(proto, SHAPES)
    parity = MaskParity(open_mask_session(proto), open_mask_session(plain), model, plan)
    rng = np.random.default_rng(0)
    classes = next(
        value.type.tensor_type.shape.dim[1].dim_value
        for value in proto.graph.output
        if value.name == "probabilities"
    )
    kinds = 0
    for n, t in CASES:
        image = pictures[rng.permutation(max(len(pictures), n))[:n] % len(pictures)]
        target = rng.integers(-1, classes, (n, t))
        region = np.zeros((n, t, 5), np.int64)
        for row, column in np.ndindex(n, t):  # each kind in turn, and whatever the target is
            region[row, column] = draw_region(rng, REGION_KINDS[kinds % 5], classes, image.shape)
            kinds += 1
        case = parity.answer(image, target, region)
        parity.compare_with_plain(case)
        parity.compare_with_torch(case)
        parity.compare_rows(case)
    parity.compare_halves(pictures[:2], classes)
    parity.reject()
    return parity.to_card()


def draw_region(
    rng: np.random.Generator, kind: str, classes: int, shape: tuple[int, ...]
) -> tuple[int, ...]:
    """A region of one of the kinds, at random: of, left, top, right, bottom."""
    height, width = shape[1:3]
    x, y = int(rng.integers(width)), int(rng.integers(height))
    match kind:
        case "own class":
            return TARGET_CLASS, 0, 0, width, height
        case "other class":
            return int(rng.integers(classes)), 0, 0, width, height
        case "box":
            left, top = int(rng.integers(width // 2)), int(rng.integers(height // 2))
            return TARGET_CLASS, left, top, left + width // 2, top + height // 2
        case "point":
            return ANY_CLASS, x, y, x + 1, y + 1
        case _:
            return ANY_CLASS, x, y, x, y
