"""The golden tests: a model must give the answers that it gave at the export.

The card holds two images with the label, probabilities (or mask) and map from the exporting
machine. The tests find a wrong provider, a swapped file, bad quantisation or swapped labels before
a version is ready.
"""

import base64
import binascii
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import Artifact, Card, Golden, InvalidArtifact
from service.errors import ApiError, InvalidImage
from service.imaging.decoding import decode_image, open_image
from service.runtime.engine import AnyOutputs, MaskOutputs, Outputs, Run

MAX_PIXELS = 1 << 24
SHARE = 1e-3  # of the pixels: devices round differently where two classes are about equal
MASK = "mask"
SHAPE_FAULT = "its probabilities, shares or cam do not have the shape of the model's"


class GoldenPicture(NamedTuple):
    """The decoded pictures of one golden test."""

    pixels: NDArray[np.uint8]  # (H, W, C), the model's input
    mask: NDArray[np.uint8] | None  # (H, W), if the model segments


Pictures = list[GoldenPicture]


class Tolerance(NamedTuple):
    """How much an answer may differ from that of the export."""

    probability: float
    cam: float  # relative to its peak
    share: float = SHARE  # of a mask's pixels


TOLERANCES = {  # by the precision of the file
    "fp32": Tolerance(2e-3, 2e-2),
    "w16": Tolerance(2e-3, 2e-2),
    "fp16": Tolerance(2e-2, 5e-2),
    "int8": Tolerance(1e-1, 3e-1),
    "mixed": Tolerance(4e-2, 1e-1),  # partly int8; chosen because little is lost
}
COMPUTED = {"bf16": Tolerance(4e-2, 1e-1, 3e-3)}  # by the precision that an engine computes in


def check_outputs(outputs: AnyOutputs, artifact: Artifact, rows: int, targets: int) -> None:
    """Check that the outputs have the declared shapes.

    Raises:
        InvalidArtifact: they do not.
    """
    card = artifact.card
    labels = len(card.labels)
    scores: tuple[tuple[int, ...], ...] = ((rows, labels), (rows, labels))
    if card.segments:
        size = (card.input.height, card.input.width)
        scores = ((rows, *size), (rows, labels, *size))
    shapes = (*scores, (rows, targets, *artifact.map_shape), (rows,))
    for name, found, shape in zip(card.outputs, outputs, shapes, strict=False):
        assert found is not None
        if found.shape != shape or found.dtype != (np.uint8 if name == MASK else np.float32):
            raise InvalidArtifact(
                f"{artifact.path} answers a batch of {rows} with '{name}' of shape "
                f"{list(found.shape)}; expected {list(shape)}."
            )
    if isinstance(outputs, MaskOutputs) and outputs.mask.max() >= labels:
        raise InvalidArtifact(
            f"{artifact.path} gives a pixel the class {outputs.mask.max()}; it has {labels} labels."
        )


def decode_golden_pictures(artifact: Artifact) -> Pictures:
    """Return the model's inputs of both golden tests, and their masks.

    A hostile picture can take long and much memory, so a server calls this in the sandbox only.

    Raises:
        InvalidArtifact: a picture cannot be decoded.
    """
    pictures = []
    for number, golden in enumerate(artifact.card.golden, start=1):
        try:
            content = base64.b64decode(golden.image, validate=True)
            decoded = decode_image(open_image(content, MAX_PIXELS), artifact.card.input)
            mask = _decode_mask(golden, artifact.card) if artifact.card.segments else None
        except (binascii.Error, ApiError) as exc:
            reason = f"its image cannot be decoded: {exc}"
            raise InvalidArtifact(_describe_fault(artifact, number, reason)) from None
        pictures.append(GoldenPicture(decoded.pixels, mask))
    return pictures


def _decode_mask(golden: Golden, card: Card) -> NDArray[np.uint8]:
    """Return the mask of a golden test, (H, W)."""
    image = open_image(base64.b64decode(golden.mask, validate=True), MAX_PIXELS)
    size = (card.input.width, card.input.height)
    if image.mode != "L" or image.size != size:
        raise InvalidImage(f"The mask must be a gray PNG of {size[0]} x {size[1]} pixels.")
    try:
        return np.asarray(image)
    except Exception as exc:  # as in `decode_image`
        raise InvalidImage(f"The mask is truncated or corrupt ({exc}).") from None


def run_golden_tests(
    artifact: Artifact, pictures: Pictures, run: Run, computed: str = "fp32"
) -> None:
    """Run both golden tests on their decoded pictures, on an engine that computes in `computed`.

    Raises:
        InvalidArtifact: an answer differs by more than the tolerance of that precision, or of the
            file's if it is larger.
    """
    precision = artifact.card.precision
    if precision not in TOLERANCES:
        known = ", ".join(TOLERANCES)
        reason = f"the card's precision '{precision}' is not one of {known}"
        raise InvalidArtifact(_describe_fault(artifact, 1, reason))
    own = TOLERANCES[precision]
    tolerance = Tolerance(*map(max, own, COMPUTED.get(computed, own)))
    tests = zip(artifact.card.golden, pictures, strict=True)
    for number, (golden, picture) in enumerate(tests, start=1):
        if difference := _find_difference(artifact, golden, picture, run, tolerance):
            raise InvalidArtifact(_describe_fault(artifact, number, difference))


def _describe_fault(artifact: Artifact, number: int, reason: str) -> str:
    return f"{artifact.path} fails golden test {number}: {reason}."


def _find_difference(
    artifact: Artifact, golden: Golden, picture: GoldenPicture, run: Run, tolerance: Tolerance
) -> str | None:
    card = artifact.card
    if golden.label not in card.labels or not -1 <= golden.target < len(card.labels):
        return f"the model has no label '{golden.label}' or no target {golden.target}"
    target = np.array([[golden.target]], np.int64)  # (1, 1)
    if golden.region and card.segments:
        target = np.array([[(golden.target, *golden.region)]], np.int64)  # (1, 1, 6)
    outputs = run(picture.pixels[np.newaxis], target)
    check_outputs(outputs, artifact, 1, 1)
    if isinstance(outputs, MaskOutputs):
        assert picture.mask is not None
        fault = _compare_mask(golden, picture.mask, outputs.mask[0], card, tolerance.share)
    else:
        fault = _compare_classes(golden, outputs, card, tolerance.probability)
    return fault or _compare_cam(golden, outputs.cam[0, 0], tolerance.cam)


def _compare_classes(golden: Golden, outputs: Outputs, card: Card, tolerance: float) -> str | None:
    label = card.labels[int(outputs.logits[0].argmax())]
    if label != golden.label:
        return f"it answers '{label}', but '{golden.label}' at the export"
    probabilities = np.array(golden.probabilities, np.float32)  # (K,)
    if probabilities.shape != outputs.probabilities[0].shape:
        return SHAPE_FAULT
    difference = float(np.abs(outputs.probabilities[0] - probabilities).max())
    if not difference <= tolerance:
        return f"probabilities differ by {difference:.2g}; the tolerance is {tolerance:.2g}"
    return None


def _compare_mask(
    golden: Golden,
    exported_mask: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    card: Card,
    tolerance: float,
) -> str | None:
    """Compare `mask` (H, W) and the shares of its classes with those of the export."""
    shares = np.bincount(mask.ravel(), minlength=len(card.labels)) / mask.size  # (K,)
    exported = np.array(golden.shares)
    if exported.shape != shares.shape:
        return SHAPE_FAULT
    label = card.labels[int(shares.argmax())]
    if label != golden.label and shares.max() - shares[card.labels.index(golden.label)] > tolerance:
        return f"most pixels are '{label}', but '{golden.label}' at the export"
    difference = float(np.abs(shares - exported).max())
    if not difference <= tolerance:
        return f"the share of a class differs by {difference:.2g}; the tolerance is {tolerance:.2g}"
    wrong = float((exported_mask != mask).mean())
    if not wrong <= tolerance:
        return f"{wrong:.2g} of the mask's pixels differ; the tolerance is {tolerance:.2g}"
    return None


def _compare_cam(golden: Golden, found: NDArray[np.float32], tolerance: float) -> str | None:
    """Compare the map `found` (h, w) with that of the export."""
    cam = np.array(golden.cam, np.float32)  # (h, w)
    if cam.shape != found.shape:
        return SHAPE_FAULT
    peak = max(float(np.abs(cam).max()), 1e-12)
    difference = float(np.abs(found - cam).max()) / peak
    if not difference <= tolerance:
        return f"cam differs by {difference:.2g} of its peak; the tolerance is {tolerance:.2g}"
    return None
