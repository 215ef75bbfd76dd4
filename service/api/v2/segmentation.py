"""What `infer` does otherwise for models that segment: regions, and answers for each pixel."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.api.v2.schemas import InputTensor
from service.api.v2.tensors import read_array
from service.artifact.card import ANYTHING, AS_TARGET, RegionTarget
from service.errors import BadRequest, excerpt
from service.imaging.memory import Drawing
from service.inference.admission import Permit
from service.inference.classifier import Classifier
from service.inference.results import check_label_index
from service.inference.segmentation.segmenter import check_mask, count_answer_bytes
from service.repository.model import Model
from service.runtime.row import MaskAnswer
from service.telemetry.timings import Timings

REGION = "region"
REGION_SIZE = len(RegionTarget._fields) - 1
NOT_WANTED = np.empty((0, 0, 0), np.float32)


def read_region_targets(
    targets: Sequence[Sequence[int]], tensor: InputTensor | None, model: Model
) -> list[list[RegionTarget]]:
    """Return the targets of each row with their regions; without `tensor`, the whole image.

    Raises:
        BadRequest: The datatype or the shape is wrong.
        UnknownLabel: The model has no class with an index.
    """
    size = model.artifact.card.input
    if tensor is None:
        whole = (AS_TARGET, 0, 0, size.width, size.height)
        return [[RegionTarget(index, *whole) for index in row] for row in targets]
    wanted = [len(targets), len(targets[0]), REGION_SIZE]
    if tensor.datatype != "INT64" or tensor.shape != wanted:
        raise BadRequest(
            f"The input '{REGION}' must be INT64 of shape {wanted}, as 'target' has, got "
            f"{excerpt(tensor.datatype)} of shape {tensor.shape}."
        )
    regions = read_array(tensor).copy()  # (N, T, 5)
    for index in np.unique(regions[..., 0]).tolist():
        if index not in (AS_TARGET, ANYTHING):
            check_label_index(index, model)
    limits = (size.width, size.height) * 2
    regions[..., 1:] = np.clip(regions[..., 1:], 0, limits)
    return [
        [RegionTarget(index, *region) for index, region in zip(*row, strict=True)]
        for row in zip(targets, regions.tolist(), strict=True)
    ]


async def segment_image(
    image: Any,
    targets: Sequence[RegionTarget],
    model: Model,
    classifier: Classifier,
    timings: Timings,
    permit: Permit,
    has_probabilities: bool,
) -> MaskAnswer:
    """Run one image, encoded or as pixels (H, W, C), and return what the answer needs of it."""
    kept = count_answer_bytes(model)
    canvas = permit.make_canvas(Drawing(None, kept_bytes=kept))
    with canvas.room:
        if isinstance(image, bytes):
            _, answer = await classifier.classify(
                image, model, lambda _: targets, timings, permit, canvas
            )
        else:
            await canvas.room.reserve(kept)
            found = await classifier.run(image, model, targets, timings, canvas.room)
            assert isinstance(found, MaskAnswer)
            answer = found
        check_mask(answer.mask, model)
        # Copies, because each would hold the outputs of its whole batch.
        probabilities = answer.probabilities.copy() if has_probabilities else NOT_WANTED
        return answer._replace(
            mask=answer.mask.copy(), probabilities=probabilities, cam=answer.cam.copy()
        )
