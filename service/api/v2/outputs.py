"""The output tensors of the Open Inference Protocol: written, in JSON and binary.

These are pure functions. They know datatypes and shapes, but nothing of models, queues or HTTP.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from numpy.typing import NDArray
from pydantic_core import to_json

from service.api.v2.schemas import AnsweredTensor
from service.api.v2.tensors import BYTES, DTYPES, LENGTH


class OutputTensor(NamedTuple):
    """One output of a response: numbers, or texts of shape [N, M]."""

    name: str
    values: NDArray[Any] | list[list[str]]
    is_binary: bool


def write_answer(head: dict[str, Any], outputs: Sequence[OutputTensor]) -> tuple[bytes, int | None]:
    """Return the body of a response, and the length of its JSON if binary data follows.

    The JSON is written row by row: at once it would hold all other requests meanwhile.
    """
    described: list[bytes] = []
    blocks: list[bytes] = []
    for output in outputs:
        tensor, values = describe_output(output), output.values
        if output.is_binary:
            block = write_block(values)
            blocks.append(block)
            tensor["parameters"] = {"binary_data_size": len(block)}
            described.append(to_json(tensor))
        else:
            described.append(b'%b,"data":[%b]}' % (to_json(tensor)[:-1], _write_rows(values)))
    start: bytes = to_json({**head, "outputs": []})[:-2]
    document = b"%b%b]}" % (start, b",".join(described))
    return b"".join((document, *blocks)), len(document) if blocks else None


def describe_output(output: OutputTensor) -> AnsweredTensor:
    """Describe an output without its values."""
    values = output.values
    if isinstance(values, list):
        shape = [len(values), len(values[0])]
        return {"name": output.name, "datatype": BYTES, "shape": shape}
    datatype = "UINT8" if values.dtype == DTYPES["UINT8"] else "FP32"
    return {"name": output.name, "datatype": datatype, "shape": list(values.shape)}


def write_block(values: NDArray[Any] | list[list[str]]) -> bytes:
    """Return the values of an output as binary data."""
    return _write_elements(values) if isinstance(values, list) else _write_array(values)


def _write_array(values: NDArray[Any]) -> bytes:
    if values.dtype == DTYPES["UINT8"]:
        return values.tobytes()
    return values.astype(DTYPES["FP32"], copy=False).tobytes()


def _write_rows(values: NDArray[Any] | list[list[str]]) -> bytes:
    """Return the items of a flat list in JSON, without its brackets."""
    rows = values if isinstance(values, list) else (row.ravel().tolist() for row in values)
    written = (to_json(row)[1:-1] for row in rows)
    return b",".join(row for row in written if row)


def _write_elements(texts: list[list[str]]) -> bytes:
    elements = [text.encode() for text in chain.from_iterable(texts)]
    return b"".join(LENGTH.pack(len(element)) + element for element in elements)
