"""The body of an `infer` request, and its response. Does not know how answers are computed."""

from collections.abc import Sequence
from typing import NamedTuple

from starlette.responses import Response

from service.api.operations import JsonObject
from service.api.v2.operations import BINARY_TYPE
from service.api.v2.outputs import OutputTensor, write_answer
from service.api.v2.schemas import InferCall, WantedOutput
from service.api.v2.segmentation import REGION, read_region_targets
from service.api.v2.signature import (
    IMAGE,
    TARGET,
    Image,
    read_images,
    read_inputs,
    read_outputs,
    read_targets,
)
from service.api.v2.tensors import read_call
from service.artifact.card import RegionTarget
from service.http.body import Body
from service.http.form import JSON_TYPE
from service.http.response import encode_json
from service.repository.model import Model
from service.schemas import AnswerWarning

JSON_LENGTH = "inference-header-content-length"


class InferRequest(NamedTuple):
    """What a request asks for."""

    call: InferCall
    wanted: list[WantedOutput]
    images: Sequence[Image]
    targets: Sequence[Sequence[int]] | Sequence[Sequence[RegionTarget]]


def read_request(json_length: str, model: Model, max_bytes: int, body: Body) -> InferRequest:
    """Read a body; `json_length` is its `Inference-Header-Content-Length`, empty if none.

    Raises:
        BadRequest: It is malformed, or does not fit the model.
        UnknownLabel: The model has no such target.
        PayloadTooLarge: It has too many values, or an image of more than `max_bytes` bytes.
    """
    return fit_request(read_call(body, json_length), model, max_bytes)


def fit_request(call: InferCall, model: Model, max_bytes: int) -> InferRequest:
    """Return what a request asks of a model, with its images taken out of the body.

    Raises:
        BadRequest: It does not fit the model.
        UnknownLabel: The model has no such target.
        PayloadTooLarge: It has too many values, or an image of more than `max_bytes` bytes.
    """
    wanted = read_outputs(call, model)
    tensors = read_inputs(call, model)
    images = read_images(tensors[IMAGE], model, max_bytes)
    indices = read_targets(tensors.get(TARGET), len(images), model)
    targets = (
        read_region_targets(indices, tensors.get(REGION), model) if model.segments else indices
    )
    for tensor in call.inputs:
        tensor.data = None  # it would hold the body
    return InferRequest(call, wanted, images, targets)


def make_response(
    call: InferCall,
    outputs: list[OutputTensor],
    model: Model,
    warnings: Sequence[Sequence[AnswerWarning]],
) -> Response:
    """Make the response: JSON, or JSON with binary data after it.

    The protocol allows a parameter to be a text, but no list. So the warnings are JSON as a text.
    """
    head: JsonObject = {
        "model_name": model.name,
        "model_version": model.version,
        "parameters": {"warnings": encode_json(warnings).decode()},
    }
    if call.id is not None:
        head = {"id": call.id, **head}
    body, json_length = write_answer(head, outputs)
    if json_length is None:
        return Response(body, media_type=JSON_TYPE)
    return Response(body, headers={JSON_LENGTH: str(json_length)}, media_type=BINARY_TYPE)
