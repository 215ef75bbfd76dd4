"""The input tensors of the Open Inference Protocol, in JSON and binary; see also `outputs`.

These are pure functions. They know datatypes, shapes and sizes, but nothing of models, images,
queues or HTTP.
"""

import struct
from math import prod
from reprlib import repr as shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from service.api.options import describe_rule
from service.api.v2.number_lists import flatten, read_integers
from service.api.v2.schemas import InferCall, InputTensor
from service.errors import ApiError, BadRequest, PayloadTooLarge, excerpt
from service.http.base64_text import describe_image_limit
from service.http.body import Body, Part
from service.http.form import decode_base64_image
from service.http.json_body import LongList, LongText, parse_json_object

BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype("u1"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
}
MAX_DIGITS = 19  # of a length, with its leading zeros
LENGTH = struct.Struct("<I")  # before each element of BYTES in binary


class BinaryData(Part):
    """The values of an input as they were sent, after the JSON."""


def read_call(body: Body, json_length: str) -> InferCall:
    """Read a request; `json_length` is its `Inference-Header-Content-Length`, empty if none.

    Raises:
        BadRequest: The JSON is malformed, a field is missing or wrong, or binary data has the
            wrong size.
        PayloadTooLarge: The JSON has too much besides pictures and numbers.
    """
    end = len(body)
    if json_length:
        is_number = json_length.isascii() and json_length.isdigit()
        length = int(json_length) if is_number and len(json_length) <= MAX_DIGITS else None
        if length is None or length > end:
            raise BadRequest(
                "Inference-Header-Content-Length must be the length of the JSON at the start of a "
                f"body of {end} bytes, got '{excerpt(json_length)}'."
            )
        end = length
    document = parse_json_object(body, '{"inputs": […]}', length=end, has_numbers=True)
    call = validate_call(document)
    _attach_binary(call.inputs, body, end)
    return call


def validate_call(document: Any) -> InferCall:
    """Return a request as the protocol describes it.

    Raises:
        BadRequest: A field is missing or wrong.
    """
    try:
        return InferCall.model_validate(document)
    except ValidationError as exc:
        raise BadRequest(_describe(exc)) from None


def read_array(tensor: InputTensor) -> NDArray[Any]:
    """Return the numbers of an input whose datatype and shape were checked.

    Raises:
        BadRequest: There are too few or too many, or one is no integer of the datatype's range.
    """
    dtype = DTYPES[tensor.datatype]
    if isinstance(tensor.data, BinaryData):
        wanted = prod(tensor.shape) * dtype.itemsize
        if len(tensor.data) != wanted:
            raise BadRequest(
                f"The input '{tensor.name}' is {tensor.datatype} of shape {tensor.shape} and must "
                f"have {wanted} binary bytes, got {len(tensor.data)} binary bytes."
            )
        return np.frombuffer(tensor.data.view, dtype).reshape(tensor.shape)
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    try:
        values = _read_integers(tensor)
        fits = not values.size or low <= values.min() <= values.max() <= high
    except OverflowError:
        fits = False
    if not fits:
        raise BadRequest(
            f"The input '{tensor.name}' must have numbers in the range of {tensor.datatype}, "
            f"{low} to {high}."
        )
    _check_count(tensor, values.size)
    return values.astype(dtype).reshape(tensor.shape)


def read_elements(tensor: InputTensor, max_bytes: int) -> list[bytes]:
    """Return the elements of a BYTES input whose shape was checked: raw, or base64 in JSON.

    Over gRPC each may be a part of its own.

    Raises:
        BadRequest: There are too few or too many, or one is truncated or not base64.
        PayloadTooLarge: One has more than `max_bytes` bytes.
    """
    if isinstance(tensor.data, list) and all(isinstance(item, Part) for item in tensor.data):
        return _read_parts(tensor, max_bytes)
    if not isinstance(tensor.data, BinaryData):
        elements = [decode_base64_image(text, max_bytes) for text in _read_texts(tensor)]
        for element in elements:
            if isinstance(element, ApiError):
                raise element
        return [element for element in elements if isinstance(element, bytes)]
    found: list[bytes] = []
    rest = tensor.data
    for number in range(prod(tensor.shape)):
        view = rest.view
        length = LENGTH.unpack_from(view)[0] if len(view) >= LENGTH.size else len(view)
        end = LENGTH.size + length
        if len(view) < end:
            raise BadRequest(
                f"The input '{tensor.name}' ends within its element {number}: send the length of "
                "each element in 4 bytes, little-endian, and then its bytes."
            )
        if length > max_bytes:
            raise PayloadTooLarge(describe_image_limit(max_bytes))
        found.append(bytes(view[LENGTH.size : end]))
        read, rest = rest.cut(end)
        read.release()
    if rest:
        raise BadRequest(
            f"The input '{tensor.name}' has {len(rest)} bytes after its {len(found)} elements."
        )
    return found


def _attach_binary(inputs: list[InputTensor], body: Body, start: int) -> None:
    """Give each input with a binary size its part of the bytes that follow the JSON."""
    rest = BinaryData(body, start, len(body))
    for tensor in inputs:
        size = tensor.parameters.binary_data_size
        if (size is None) == (tensor.data is None):
            raise BadRequest(
                f"The input '{excerpt(tensor.name)}' must have either 'data' or the parameter "
                "'binary_data_size'."
            )
        if size is None:
            continue
        if size > len(rest):
            raise BadRequest(
                f"The input '{excerpt(tensor.name)}' must have {size} binary bytes, but "
                f"{len(rest)} are left after the JSON and the inputs before it."
            )
        tensor.data, rest = rest.cut(size)
    if rest:
        raise BadRequest(
            f"{len(rest)} bytes follow the last input: set Inference-Header-Content-Length to the "
            "length of the JSON, and each 'binary_data_size' to the size of its input."
        )


def _read_integers(tensor: InputTensor) -> NDArray[np.int64]:
    """Return the integers, in JSON flat or nested, after a check of their type."""
    if isinstance(tensor.data, np.ndarray):
        return tensor.data
    if isinstance(tensor.data, LongList):
        return read_integers(tensor.data.view, tensor.name)
    return np.array(_flatten(tensor, {int}, "integers"), np.int64)


def _read_parts(tensor: InputTensor, max_bytes: int) -> list[bytes]:
    """Return the elements that each stand alone in the body."""
    _check_count(tensor, len(tensor.data))
    found: list[bytes] = []
    for part in tensor.data:
        if len(part) > max_bytes:
            raise PayloadTooLarge(describe_image_limit(max_bytes))
        found.append(bytes(part.view))
        part.release()
    return found


def _read_texts(tensor: InputTensor) -> list[str | LongText]:
    """Return the texts in JSON, flat or nested, after a check of their type and number."""
    texts = _flatten(tensor, {str, LongText}, "base64 strings")
    _check_count(tensor, len(texts))
    return texts


def _flatten(tensor: InputTensor, kinds: set[type], wanted: str) -> list[Any]:
    if not isinstance(tensor.data, list):
        raise BadRequest(f"The 'data' of the input '{tensor.name}' must be a list.")
    values, _ = flatten(tensor.data)
    if set(map(type, values)) - kinds:
        raise BadRequest(f"The 'data' of the input '{tensor.name}' must be {wanted}.")
    return values


def _check_count(tensor: InputTensor, count: int) -> None:
    if count != prod(tensor.shape):
        raise BadRequest(
            f"The input '{tensor.name}' of shape {tensor.shape} must have {prod(tensor.shape)} "
            f"values, got {count}."
        )


def _describe(exc: ValidationError) -> str:
    """Write one sentence on the first field that is wrong."""
    detail = exc.errors(include_url=False)[0]
    place = ".".join(map(str, detail["loc"]))
    if detail["type"] == "missing":
        return f"The field '{place}' is missing."
    return f"'{place}' must {describe_rule(detail)}, got {shorten(detail['input'])}."
