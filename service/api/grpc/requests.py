"""The requests of the Open Inference Protocol over gRPC: see `open_inference.proto`.

This module knows fields and datatypes. It knows no models, and nothing of connections.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.api.grpc.wire import (
    LENGTH,
    MAX_FIELDS,
    Field,
    FieldCount,
    make_malformed,
    read_fields,
    read_integers,
    read_signed,
    read_text,
)
from service.api.v2.schemas import MAX_DIMENSIONS, MAX_TENSORS, InferCall
from service.api.v2.tensors import BYTES, BinaryData, validate_call
from service.artifact.layout import make_reference
from service.errors import BadRequest, excerpt
from service.http.body import Body

# The numbers of the fields of ModelInferRequest and of the messages in it.
MODEL, VERSION, ID, PARAMETERS, INPUTS, OUTPUTS, RAW = range(1, 8)
NAME, DATATYPE, SHAPE, TENSOR_PARAMETERS, CONTENTS = range(1, 6)
OUTPUT_PARAMETERS = 2
KEY, VALUE = 1, 2
FLAG, INTEGER, TEXT, DOUBLE, UNSIGNED = range(1, 6)
CONTENTS_NAMES = {"int64_contents": 3, "uint_contents": 4, "bytes_contents": 8}
CONTENTS_OF = {"INT64": "int64_contents", "UINT8": "uint_contents", BYTES: "bytes_contents"}
NOTHING: list[Any] = []  # the values of an input without contents


class InferMessage(NamedTuple):
    """A request for inference: the model, and the same as a request over HTTP."""

    model: str
    call: InferCall
    is_raw: bool  # the inputs' numbers are bytes, and the outputs' are to be


class NamedModel(NamedTuple):
    """A request about one model."""

    name: str
    version: str


def read_named_model(body: Body) -> NamedModel:
    """Read a ModelReadyRequest or ModelMetadataRequest.

    Raises:
        BadRequest: It is malformed.
    """
    texts = {1: "", 2: ""}
    for field in read_fields(BinaryData(body, 0, len(body))):
        if field.number in texts:
            texts[field.number] = read_text(field)
    return NamedModel(texts[1], texts[2])


def read_index_request(body: Body) -> bool:
    """Read a RepositoryIndexRequest. Return whether only ready models are wanted.

    Raises:
        BadRequest: It is malformed.
    """
    fields = read_fields(BinaryData(body, 0, len(body)))
    return any(field.value for field in fields if field.number == 2)


def read_infer_request(body: Body) -> InferMessage:
    """Read a ModelInferRequest.

    Raises:
        BadRequest: It is malformed, or a field is missing or wrong.
        PayloadTooLarge: It has too many values.
    """
    texts = {MODEL: "", VERSION: "", ID: ""}
    parameters: dict[str, Any] = {}
    inputs: list[dict[str, Any]] = []
    outputs: list[dict[str, Any]] = []
    raw: list[BinaryData] = []
    total = FieldCount()
    for field in read_fields(BinaryData(body, 0, len(body)), total=total):
        if field.number in texts:
            texts[field.number] = read_text(field)
        elif field.number == PARAMETERS:
            parameters |= _read_parameter(field, total)
        elif field.number == INPUTS and len(inputs) <= MAX_TENSORS:  # one too many is rejected
            inputs.append(_read_input(field, total))
        elif field.number == OUTPUTS and len(outputs) <= MAX_TENSORS:
            outputs.append(_read_output(field, total))
        elif field.number == RAW:
            raw.append(_get_bytes(field))
    if raw and len(inputs) <= MAX_TENSORS:
        _attach_raw(inputs, raw)
    document = {
        "inputs": inputs,
        "outputs": outputs,
        "parameters": parameters | {"binary_data_output": True},
        "id": texts[ID] or None,
    }
    call = validate_call(document)
    name, version = texts[MODEL], texts[VERSION]
    return InferMessage(make_reference(name, version), call, bool(raw))


def _attach_raw(inputs: list[dict[str, Any]], raw: list[BinaryData]) -> None:
    """Give each input its bytes, which follow all inputs in their order."""
    if len(raw) != len(inputs):
        raise BadRequest(
            f"There are {len(inputs)} inputs and {len(raw)} raw_input_contents: send one for each "
            "input, in the same order."
        )
    for tensor, part in zip(inputs, raw, strict=True):
        if tensor["data"] is not NOTHING:
            raise BadRequest(
                f"The input '{excerpt(tensor['name'])}' has 'contents' and raw_input_contents: "
                "send one of them."
            )
        tensor["data"] = part


def _read_input(field: Field, total: FieldCount) -> dict[str, Any]:
    tensor: dict[str, Any] = {"name": "", "datatype": "", "parameters": {}, "data": NOTHING}
    shape: list[int] = []
    contents: Field | None = None
    for own in _read_message(field, total):
        if own.number == NAME:
            tensor["name"] = read_text(own)
        elif own.number == DATATYPE:
            tensor["datatype"] = read_text(own)
        elif own.number == SHAPE and len(shape) <= MAX_DIMENSIONS:
            shape += read_integers(own)[: MAX_DIMENSIONS + 1].tolist()
        elif own.number == TENSOR_PARAMETERS:
            tensor["parameters"] |= _read_parameter(own, total)
        elif own.number == CONTENTS:
            contents = own
    tensor["shape"] = shape
    if contents is not None:
        tensor["data"] = _read_contents(contents, tensor, total)
    return tensor


def _read_contents(
    contents: Field, tensor: dict[str, Any], total: FieldCount
) -> list[BinaryData] | NDArray[np.int64]:
    """Return the texts or the numbers of an input, from the field for its datatype."""
    name, datatype = tensor["name"], tensor["datatype"]
    wanted = CONTENTS_OF.get(datatype)
    numbers: list[NDArray[np.int64]] = []
    texts: list[BinaryData] = []
    for field in _read_message(contents, total):
        if wanted is None or field.number != CONTENTS_NAMES[wanted]:
            raise BadRequest(
                f"The contents of the input '{excerpt(name)}' of {excerpt(datatype)} must be in "
                f"{wanted or 'raw_input_contents'}."
            )
        if datatype == BYTES:
            texts.append(_get_bytes(field))
        else:
            numbers.append(read_integers(field))
            total.add_values(len(numbers[-1]))
    if datatype == BYTES:
        return texts
    return np.concatenate(numbers) if numbers else np.empty(0, np.int64)


def _read_output(field: Field, total: FieldCount) -> dict[str, Any]:
    output: dict[str, Any] = {"name": "", "parameters": {}}
    for own in _read_message(field, total):
        if own.number == NAME:
            output["name"] = read_text(own)
        elif own.number == OUTPUT_PARAMETERS:
            output["parameters"] |= _read_parameter(own, total)
    return output


def _read_parameter(field: Field, total: FieldCount) -> dict[str, Any]:
    """Return the one entry that a field of a map holds."""
    key, value = "", None
    readers: dict[int, Callable[[Field], Any]] = {
        FLAG: lambda own: bool(own.value),
        INTEGER: read_signed,
        TEXT: read_text,
        UNSIGNED: lambda own: own.value,
    }
    for own in _read_message(field, total, most=2):
        if own.number == KEY:
            key = read_text(own)
        elif own.number == VALUE:
            for held in _read_message(own, total, most=1):
                if held.number in readers:
                    value = readers[held.number](held)
    return {key: value}


def _read_message(field: Field, total: FieldCount, most: int = MAX_FIELDS) -> Iterator[Field]:
    """Return the fields of a message in a field."""
    if field.kind != LENGTH:
        raise make_malformed()
    return read_fields(field.part, most, total)


def _get_bytes(field: Field) -> BinaryData:
    """Return the place of a field's bytes."""
    if field.kind != LENGTH:
        raise make_malformed()
    return BinaryData(field.part.body, field.part.begin, field.part.end)
