"""The golden tests: a model must give the answers that it gave at the export.

The card holds two images with the label, probabilities and map from the exporting machine. The
tests find a wrong provider, a swapped file, bad quantisation or swapped labels before a version is
ready.
"""

import base64
import binascii

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import Artifact, Golden, InvalidArtifact
from service.errors import ApiError
from service.imaging.decoding import decode_image, open_image
from service.runtime.engine import Outputs, Run

MAX_PIXELS = 1 << 24
Pictures = list[NDArray[np.uint8]]
TOLERANCES = {  # precision: largest difference of a probability, and of cam relative to its peak
    "fp32": (2e-3, 2e-2),
    "w16": (2e-3, 2e-2),
    "fp16": (2e-2, 5e-2),
    "int8": (1e-1, 3e-1),
}


def check_outputs(outputs: Outputs, artifact: Artifact, rows: int, targets: int) -> None:
    """Check that the outputs have the declared shapes.

    Raises:
        InvalidArtifact: they do not.
    """
    labels = len(artifact.card.labels)
    shapes = ((rows, labels), (rows, labels), (rows, targets, *artifact.map_shape), (rows,))
    for name, found, shape in zip(artifact.card.outputs, outputs, shapes, strict=False):
        assert found is not None
        if found.shape != shape or found.dtype != np.float32:
            raise InvalidArtifact(
                f"{artifact.path} answers a batch of {rows} with '{name}' of shape "
                f"{list(found.shape)}; expected {list(shape)}."
            )


def decode_golden_pictures(artifact: Artifact) -> Pictures:
    """Return the model's inputs of both golden tests, (H, W, C) each.

    A hostile picture can take long and much memory, so a server calls this in the sandbox only.

    Raises:
        InvalidArtifact: a picture cannot be decoded.
    """
    pictures = []
    for number, golden in enumerate(artifact.card.golden, start=1):
        try:
            content = base64.b64decode(golden.image, validate=True)
            decoded = decode_image(open_image(content, MAX_PIXELS), artifact.card.input)
        except (binascii.Error, ApiError) as exc:
            reason = f"its image cannot be decoded: {exc}"
            raise InvalidArtifact(_describe_fault(artifact, number, reason)) from None
        pictures.append(decoded.pixels)
    return pictures


def run_golden_tests(artifact: Artifact, pictures: Pictures, run: Run) -> None:
    """Run both golden tests on their decoded pictures.

    Raises:
        InvalidArtifact: an answer differs by more than the tolerance of the model's precision.
    """
    tests = zip(artifact.card.golden, pictures, strict=True)
    for number, (golden, pixels) in enumerate(tests, start=1):
        if difference := _find_difference(artifact, golden, pixels, run):
            raise InvalidArtifact(_describe_fault(artifact, number, difference))


def _describe_fault(artifact: Artifact, number: int, reason: str) -> str:
    return f"{artifact.path} fails golden test {number}: {reason}."


def _find_difference(
    artifact: Artifact, golden: Golden, pixels: NDArray[np.uint8], run: Run
) -> str | None:
    card = artifact.card
    if golden.label not in card.labels or not -1 <= golden.target < len(card.labels):
        return f"the model has no label '{golden.label}' or no target {golden.target}"
    target = np.array([[golden.target]], np.int64)  # (1, 1)
    outputs = run(pixels[np.newaxis], target)
    check_outputs(outputs, artifact, 1, 1)
    label = card.labels[int(outputs.logits[0].argmax())]
    if label != golden.label:
        return f"it answers '{label}', but '{golden.label}' at the export"
    precision = str((card.model_extra or {}).get("precision", "fp32"))
    if precision not in TOLERANCES:
        return f"the card's precision '{precision}' is not one of {', '.join(TOLERANCES)}"
    tolerance, cam_tolerance = TOLERANCES[precision]
    probabilities = np.array(golden.probabilities, np.float32)  # (K,)
    cam = np.array(golden.cam, np.float32)  # (h, w)
    if (
        probabilities.shape != outputs.probabilities[0].shape
        or cam.shape != outputs.cam[0, 0].shape
    ):
        return "its probabilities or cam do not have the shape of the model's"
    difference = float(np.abs(outputs.probabilities[0] - probabilities).max())
    if not difference <= tolerance:
        return f"probabilities differ by {difference:.2g}; the tolerance is {tolerance:.2g}"
    peak = max(float(np.abs(cam).max()), 1e-12)
    difference = float(np.abs(outputs.cam[0, 0] - cam).max()) / peak
    if not difference <= cam_tolerance:
        return f"cam differs by {difference:.2g} of its peak; the tolerance is {cam_tolerance:.2g}"
    return None
