"""The answers of the Open Inference Protocol over gRPC: see `open_inference.proto`.

This module knows fields and datatypes. It knows no models, and nothing of connections.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.grpc.wire import (
    count_packed_bytes,
    pack_small_integers,
    write_bytes,
    write_flag,
    write_head,
    write_integers,
    write_text,
)
from service.api.v2.outputs import (
    OutputTensor,
    Texts,
    cut_values,
    describe_output,
    write_block,
)
from service.api.v2.schemas import IndexEntry, ModelMetadata, ServerMetadata, TensorMetadata
from service.long_answers import AnswerBuffer

# The numbers of the fields of ModelInferResponse and of the messages in it.
MODEL, VERSION, ID, PARAMETERS, OUTPUTS, RAW = range(1, 7)
NAME, DATATYPE, SHAPE, _, CONTENTS = range(1, 6)
KEY, VALUE, TEXT = 1, 2, 3
UINT_CONTENTS, FP32_CONTENTS, BYTES_CONTENTS = 4, 6, 8


def write_infer_response(
    buffer: AnswerBuffer,
    request_id: str | None,
    model: tuple[str, str],
    outputs: Sequence[OutputTensor],
    is_raw: bool,
    warnings: str,
) -> None:
    """Write a ModelInferResponse to `buffer`.

    `model` is name and version, and `warnings` a text in JSON.
    """
    head = write_text(MODEL, model[0]) + write_text(VERSION, model[1])
    head += write_text(ID, request_id or "")
    text = write_bytes(VALUE, write_text(TEXT, warnings))
    parts: list[Iterable[bytes]] = [
        [head, write_bytes(PARAMETERS, write_text(KEY, "warnings") + text)]
    ]
    blocks: list[Iterable[bytes]] = []
    for output in outputs:
        described = describe_output(output)
        head = write_text(NAME, output.name) + write_text(DATATYPE, described["datatype"])
        head += write_integers(SHAPE, described["shape"])
        if is_raw:
            length, block = write_block(output.values)
            blocks += [[write_head(RAW, length)], block]
            parts.append([write_bytes(OUTPUTS, head)])
        else:
            length, contents = _write_contents(output.values)
            head += write_head(CONTENTS, length)
            parts += [[write_head(OUTPUTS, len(head) + length), head], contents]
    buffer.add(chain.from_iterable([*parts, *blocks]))


def write_liveness(is_well: bool) -> bytes:
    """Write a ServerLiveResponse, ServerReadyResponse or ModelReadyResponse."""
    return write_flag(1, is_well)


def write_server_metadata(server: ServerMetadata) -> bytes:
    """Write a ServerMetadataResponse."""
    extensions = b"".join(write_text(3, name) for name in server["extensions"])
    return write_text(1, server["name"]) + write_text(2, server["version"]) + extensions


def write_model_metadata(model: ModelMetadata) -> bytes:
    """Write a ModelMetadataResponse."""
    parts = [write_text(1, model["name"])]
    parts += [write_text(2, version) for version in model["versions"]]
    parts.append(write_text(3, model["platform"]))
    parts += [write_bytes(4, _write_tensor(tensor)) for tensor in model["inputs"]]
    parts += [write_bytes(5, _write_tensor(tensor)) for tensor in model["outputs"]]
    return b"".join(parts)


def write_index(entries: Sequence[IndexEntry]) -> bytes:
    """Write a RepositoryIndexResponse."""
    return b"".join(
        write_bytes(
            1,
            write_text(1, entry["name"])
            + write_text(2, entry["version"])
            + write_text(3, entry["state"])
            + write_text(4, entry["reason"]),
        )
        for entry in entries
    )


def _write_tensor(tensor: TensorMetadata) -> bytes:
    head = write_text(NAME, tensor["name"]) + write_text(DATATYPE, tensor["datatype"])
    return head + write_integers(SHAPE, tensor["shape"])


def _write_contents(values: NDArray[Any] | Texts) -> tuple[int, Iterable[bytes]]:
    """Return an output's values as an InferTensorContents: the number of bytes, and the pieces."""
    if isinstance(values, Texts):
        pieces = [
            b"".join(write_bytes(BYTES_CONTENTS, text.encode()) for text in texts)
            for texts in values.pieces
        ]
        return sum(map(len, pieces)), pieces
    if values.dtype == np.uint8:
        length = count_packed_bytes(values)
        block: Iterable[bytes] = map(pack_small_integers, cut_values(values))
        head = write_head(UINT_CONTENTS, length)
    else:
        length, block = write_block(values)
        head = write_head(FP32_CONTENTS, length)
    return len(head) + length, chain([head], block)
