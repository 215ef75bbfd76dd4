"""Runs the images of an `infer` request. Does not know how tensors are encoded."""

import asyncio
from functools import partial
from typing import Any

from service.api.v2.answers import count_answer_bytes
from service.api.v2.infer import InferRequest
from service.api.v2.segmentation import segment_image
from service.api.v2.signature import PROBABILITIES, Image
from service.imaging.saliency import is_empty
from service.inference.admission import Permit
from service.inference.classifier import Classification, Classifier
from service.inference.confidence import warn
from service.inference.room import take_turns
from service.repository.model import Model
from service.runtime.row import Answer, AnyAnswer
from service.schemas import AnswerWarning
from service.telemetry import metrics
from service.telemetry.timings import Timings


async def answer_images(
    inputs: InferRequest, model: Model, classifier: Classifier, timings: Timings, permit: Permit
) -> list[AnyAnswer]:
    """Return an answer for each image. If one fails, the call fails after the others end."""
    has_probabilities = any(output.name == PROBABILITIES for output in inputs.wanted)
    is_binary = inputs.call.parameters.binary_data_output
    permit.add_answer(count_answer_bytes(inputs.wanted, inputs.targets, model, is_binary))

    async def answer_image(image: Image, targets: Any) -> AnyAnswer:
        if model.segments:
            return await segment_image(
                image, targets, model, classifier, timings, permit, has_probabilities
            )
        if isinstance(image, bytes):
            classification: Classification[Answer] = await classifier.classify(
                image, model, targets, timings, permit
            )
            return classification.answer
        with permit.make_room() as room:  # for the row, which is a part of the body
            return await classifier.run(image, model, targets, timings, room)

    at_once = model.batcher.rows_per_request
    answer = take_turns(answer_image, at_once, partial(timings.note, "queue"))
    running = map(answer, inputs.images, inputs.targets)
    results = await asyncio.gather(*running, return_exceptions=True)
    failure = next((result for result in results if isinstance(result, BaseException)), None)
    try:
        if failure:
            raise failure
        answers = [result for result in results if not isinstance(result, BaseException)]
    finally:
        del results, failure  # an exception and its frame must not hold each other
    empty = [is_empty(cam) for answer in answers for cam in answer.cam]
    metrics.count_maps(model.name, len(empty), sum(empty))
    return answers


def warn_of(answer: AnyAnswer, model: Model) -> list[AnswerWarning]:
    """The warnings for one image. A model that segments gives none."""
    if isinstance(answer, Answer):
        return warn(answer, int(answer.logits.argmax()), model)
    return []
