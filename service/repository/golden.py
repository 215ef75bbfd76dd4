"""The golden probe: does a model answer here what its exporter saw?

Two pictures travel in the card with the label, probabilities and map of the exporter's machine.
A wrong provider, a swapped file, a bad quantisation or swapped labels show here, before a version
is ready.
"""

import base64
import binascii

import numpy as np

from service.artifact.card import Artifact, Golden, InvalidArtifact
from service.errors import ApiError
from service.imaging.decoding import decode_image, open_image
from service.runtime.batcher import Outputs, Run

MAX_PIXELS = 1 << 24
TOLERANCES = {  # precision: largest difference of a probability, and of cam over its peak
    "fp32": (2e-3, 2e-2),
    "w16": (2e-3, 2e-2),
    "fp16": (2e-2, 5e-2),
    "int8": (1e-1, 3e-1),
}


def check_outputs(outputs: Outputs, artifact: Artifact, rows: int, targets: int) -> None:
    """See that a graph answers in the shapes that it declares.

    Raises:
        BadArtefact: it does not.
    """
    labels = len(artifact.card.labels)
    shapes = ((rows, labels), (rows, labels), (rows, targets, *artifact.map_shape))
    for name, found, shape in zip(Outputs._fields, outputs, shapes, strict=True):
        if found.shape != shape or found.dtype != np.float32:
            raise InvalidArtifact(
                f"{artifact.path} answers {rows} pictures with '{name}' of shape "
                f"{list(found.shape)}, not {list(shape)}."
            )


def run_golden_tests(artifact: Artifact, run: Run) -> None:
    """Run both golden pictures.

    Raises:
        BadArtefact: an answer is not the exporter's within the tolerance of the precision.
    """
    for number, golden in enumerate(artifact.card.golden, start=1):
        if fault := _find_difference(artifact, golden, run):
            raise InvalidArtifact(f"{artifact.path} fails its golden probe {number}: {fault}.")


def _find_difference(artifact: Artifact, golden: Golden, run: Run) -> str | None:
    card = artifact.card
    if golden.label not in card.labels or not -1 <= golden.target < len(card.labels):
        return f"its label '{golden.label}' or target {golden.target} is none of the model's"
    try:
        content = base64.b64decode(golden.image, validate=True)
        picture = decode_image(open_image(content, MAX_PIXELS), card.input)
    except (binascii.Error, ApiError) as fault:
        return f"its picture can't be decoded: {fault}"
    target = np.array([[golden.target]], np.int64)  # (1, 1)
    outputs = run(picture.pixels[np.newaxis], target)
    check_outputs(outputs, artifact, 1, 1)
    label = card.labels[int(outputs.logits[0].argmax())]
    if label != golden.label:
        return f"it says '{label}' here, '{golden.label}' at the export"
    precision = str((card.model_extra or {}).get("precision", "fp32"))
    if precision not in TOLERANCES:
        return f"no tolerance is known for its precision '{precision}'"
    tolerance, cam_tolerance = TOLERANCES[precision]
    probabilities = np.array(golden.probabilities, np.float32)  # (K,)
    cam = np.array(golden.cam, np.float32)  # (h, w)
    if (
        probabilities.shape != outputs.probabilities[0].shape
        or cam.shape != outputs.cam[0, 0].shape
    ):
        return "its probabilities or cam have another shape than the model's"
    difference = float(np.abs(outputs.probabilities[0] - probabilities).max())
    if not difference <= tolerance:
        return f"probabilities differ by {difference:.2g}, more than {tolerance:.2g}"
    peak = max(float(np.abs(cam).max()), 1e-12)
    difference = float(np.abs(outputs.cam[0, 0] - cam).max()) / peak
    if not difference <= cam_tolerance:
        return f"cam differs by {difference:.2g} of its peak, more than {cam_tolerance:.2g}"
    return None
