"""The wire format of the Open Inference Protocol: bodies to tensors and back, JSON and binary.

Pure functions. Knows datatypes, shapes and sizes; nothing of models, pictures, queues or HTTP.
"""

import struct
from collections.abc import Sequence
from itertools import chain
from math import prod
from reprlib import repr as shorten
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from pydantic_core import to_json

from service.api.v2.schemas import AnsweredTensor, InferCall, InputTensor
from service.errors import BadRequest, PayloadTooLarge
from service.http.form import decode_base64_image, parse_json_object

BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
}
# Numbers in JSON take many times their size to read, and hold everybody up while they are read.
MAX_JSON_VALUES = 1_000_000
LENGTH = struct.Struct("<I")  # before each element of BYTES in binary


class OutputTensor(NamedTuple):
    """One output of an answer: numbers, or texts of the shape [N, M]."""

    name: str
    values: NDArray[np.float32] | list[list[str]]
    is_binary: bool


def read_call(body: bytes, json_length: str) -> InferCall:
    """Read a request; `json_length` is its `Inference-Header-Content-Length`, empty for all JSON.

    Raises:
        BadRequest: malformed JSON, fields missing or wrong, or binary data of the wrong size.
        PayloadTooLarge: more values in JSON than can be read.
    """
    end = len(body)
    if json_length:
        if not (json_length.isascii() and json_length.isdigit() and int(json_length[:20]) <= end):
            raise BadRequest(
                f"Inference-Header-Content-Length is '{json_length}': it should be the bytes of "
                f"the JSON at the start of the body, which has {end}."
            )
        end = int(json_length)
    document = body[:end]
    if sum(map(document.count, (b",", b"[", b"{"))) > MAX_JSON_VALUES:
        raise PayloadTooLarge(
            f"The JSON holds more than {MAX_JSON_VALUES} values: send tensors as binary data."
        )
    try:
        call = InferCall.model_validate(parse_json_object(document, '{"inputs": […]}'))
    except ValidationError as fault:
        raise BadRequest(_explain(fault)) from None
    _deliver(call.inputs, memoryview(body)[end:])
    return call


def read_array(tensor: InputTensor) -> NDArray[Any]:
    """The numbers of an input whose datatype and shape were found right.

    Raises:
        BadRequest: too few, too many, or other than whole numbers in the datatype's range.
    """
    dtype = DTYPES[tensor.datatype]
    if isinstance(tensor.data, memoryview):
        wanted = prod(tensor.shape) * dtype.itemsize
        if len(tensor.data) != wanted:
            raise BadRequest(
                f"The input '{tensor.name}' has {len(tensor.data)} binary bytes; "
                f"{tensor.datatype} of shape {tensor.shape} has {wanted}."
            )
        return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
    values = _flatten(tensor, int)
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    if values and not low <= min(values) <= max(values) <= high:
        raise BadRequest(
            f"The input '{tensor.name}' holds numbers out of {tensor.datatype}'s range, "
            f"{low} to {high}."
        )
    return np.array(values, dtype).reshape(tensor.shape)


def read_elements(tensor: InputTensor) -> list[bytes]:
    """The elements of a BYTES input of a shape found right: raw in binary, base64 in JSON.

    Raises:
        BadRequest: too few, too many, truncated, or no base64.
    """
    if not isinstance(tensor.data, memoryview):
        decoded = [decode_base64_image(text) for text in _flatten(tensor, str)]
        for element in decoded:
            if isinstance(element, BadRequest):
                raise element
        return [element for element in decoded if isinstance(element, bytes)]
    elements: list[bytes] = []
    rest = tensor.data
    for number in range(prod(tensor.shape)):
        length = LENGTH.unpack_from(rest)[0] if len(rest) >= LENGTH.size else len(rest)
        end = LENGTH.size + length
        if len(rest) < end:
            raise BadRequest(
                f"The input '{tensor.name}' ends within its element {number}: each is a length of "
                "4 bytes, little-endian, and then so many bytes."
            )
        elements.append(bytes(rest[LENGTH.size : end]))
        rest = rest[end:]
    if rest:
        raise BadRequest(
            f"The input '{tensor.name}' has {len(rest)} bytes more than its {len(elements)} "
            "elements."
        )
    return elements


def write_answer(head: dict[str, Any], outputs: Sequence[OutputTensor]) -> tuple[bytes, int | None]:
    """A body, and the length of its JSON where binary data follows; `head` is put before."""
    told: list[AnsweredTensor] = []
    blocks: list[bytes] = []
    for name, values, is_binary in outputs:
        if isinstance(values, list):
            datatype, shape = BYTES, [len(values), len(values[0])]
            data: list[Any] = list(chain.from_iterable(values))
        else:
            datatype, shape, data = "FP32", list(values.shape), []
        tensor: AnsweredTensor = {"name": name, "datatype": datatype, "shape": shape}
        if is_binary:
            block = _write_elements(data) if isinstance(values, list) else _write_array(values)
            blocks.append(block)
            tensor["parameters"] = {"binary_data_size": len(block)}
        else:
            tensor["data"] = data if isinstance(values, list) else values.ravel().tolist()
        told.append(tensor)
    document: bytes = to_json({**head, "outputs": told})
    return b"".join((document, *blocks)), len(document) if blocks else None


def _deliver(inputs: list[InputTensor], rest: memoryview) -> None:
    """Give each input that announces binary data its share of what follows the JSON."""
    for tensor in inputs:
        size = tensor.parameters.binary_data_size
        if (size is None) == (tensor.data is None):
            raise BadRequest(
                f"The input '{tensor.name}' needs either 'data' or the parameter "
                "'binary_data_size'."
            )
        if size is None:
            continue
        if size > len(rest):
            raise BadRequest(
                f"The input '{tensor.name}' announces {size} binary bytes; {len(rest)} are left "
                "after the JSON and the inputs before it."
            )
        tensor.data, rest = rest[:size], rest[size:]
    if rest:
        raise BadRequest(
            f"{len(rest)} bytes follow the last input: set Inference-Header-Content-Length to the "
            "bytes of the JSON, and each 'binary_data_size' to those of its input."
        )


def _flatten(tensor: InputTensor, kind: type) -> list[Any]:
    """The values that JSON gave, flat or nested, all of one kind and as many as the shape says."""
    values = tensor.data
    if not isinstance(values, list):
        raise BadRequest(f"The 'data' of the input '{tensor.name}' is no list.")
    while values and set(map(type, values)) == {list}:
        values = list(chain.from_iterable(values))
    if set(map(type, values)) - {kind}:
        wanted = "whole numbers" if kind is int else "strings of base64"
        raise BadRequest(f"The 'data' of the input '{tensor.name}' should be {wanted}.")
    if len(values) != prod(tensor.shape):
        raise BadRequest(
            f"The input '{tensor.name}' has {len(values)} values; its shape {tensor.shape} has "
            f"{prod(tensor.shape)}."
        )
    return values


def _write_array(values: NDArray[np.float32]) -> bytes:
    return values.astype(DTYPES["FP32"], copy=False).tobytes()


def _write_elements(texts: list[str]) -> bytes:
    elements = [text.encode() for text in texts]
    return b"".join(LENGTH.pack(len(element)) + element for element in elements)


def _explain(fault: ValidationError) -> str:
    """One sentence for the first field at fault."""
    error = fault.errors(include_url=False)[0]
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"The request lacks '{place}'."
    wish = error["msg"].removeprefix("Value error, ").partition("should ")[2]
    return f"'{place}' can't be {shorten(error['input'])}: it should {wish}."
