"""The output tensors of the Open Inference Protocol: written, in JSON and binary.

This module knows datatypes and shapes, but nothing of models, queues or HTTP.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic_core import to_json

from service.api.v2.schemas import AnsweredTensor
from service.api.v2.tensors import BYTES, DTYPES, LENGTH
from service.long_answers import PIECE_VALUES, AnswerBuffer


class Texts(NamedTuple):
    """Texts of shape [N, M], which are made a few at a time."""

    shape: tuple[int, int]
    pieces: Iterable[list[str]]


class OutputTensor(NamedTuple):
    """One output of a response: numbers or texts."""

    name: str
    values: NDArray[Any] | Texts
    is_binary: bool


def write_answer(
    buffer: AnswerBuffer, head: dict[str, Any], outputs: Sequence[OutputTensor]
) -> int | None:
    """Write the body of a response. Return the length of its JSON if binary data follows.

    It is written in pieces: at once it would hold all other requests meanwhile.
    """
    blocks: list[Iterable[bytes]] = []
    buffer.write(to_json({**head, "outputs": []})[:-2])
    for number, output in enumerate(outputs):
        tensor = describe_output(output)
        if output.is_binary:
            size, block = write_block(output.values)
            blocks.append(block)
            tensor["parameters"] = {"binary_data_size": size}
        buffer.write(b"%b%b" % (b"," if number else b"", to_json(tensor)[:-1]))
        if not output.is_binary:
            buffer.add(_write_list(output.values))
        buffer.write(b"}")
    buffer.write(b"]}")
    length = buffer.tell()
    buffer.add(chain.from_iterable(blocks))
    return length if blocks else None


def describe_output(output: OutputTensor) -> AnsweredTensor:
    """Describe an output without its values."""
    datatype, shape = _choose_datatype(output.values), list(output.values.shape)
    return {"name": output.name, "datatype": datatype, "shape": shape}


def write_block(values: NDArray[Any] | Texts) -> tuple[int, Iterable[bytes]]:
    """Return the values of an output as binary data: the number of bytes, and the pieces."""
    if isinstance(values, Texts):
        blocks = [*map(_write_elements, values.pieces)]
        return sum(map(len, blocks)), blocks
    wanted = values.astype(DTYPES[_choose_datatype(values)], copy=False)
    return wanted.nbytes, map(np.ndarray.tobytes, cut_values(wanted))


def cut_values(values: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the values in order, at least one time."""
    flat = values.reshape(-1)
    for start in range(0, max(1, len(flat)), PIECE_VALUES):
        yield flat[start : start + PIECE_VALUES]


def _choose_datatype(values: NDArray[Any] | Texts) -> str:
    if isinstance(values, Texts):
        return BYTES
    return "UINT8" if values.dtype == DTYPES["UINT8"] else "FP32"


def _write_list(values: NDArray[Any] | Texts) -> Iterator[bytes]:
    """Yield the field `data` in JSON, with all values in one list."""
    pieces = (
        values.pieces if isinstance(values, Texts) else map(np.ndarray.tolist, cut_values(values))
    )
    before = b',"data":['
    for piece in pieces:
        yield before + to_json(piece)[1:-1]
        before = b","
    yield b"]"


def _write_elements(texts: Sequence[str]) -> bytes:
    elements = [text.encode() for text in texts]
    return b"".join(LENGTH.pack(len(element)) + element for element in elements)
