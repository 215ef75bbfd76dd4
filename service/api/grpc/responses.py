"""The answers of the Open Inference Protocol over gRPC: see `open_inference.proto`.

This module knows fields and datatypes. It knows no models, and nothing of connections.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.grpc.wire import (
    pack_small_integers,
    write_bytes,
    write_flag,
    write_head,
    write_integers,
    write_text,
)
from service.api.v2.outputs import OutputTensor, describe_output, write_block
from service.api.v2.schemas import IndexEntry, ModelMetadata, ServerMetadata, TensorMetadata

# The numbers of the fields of ModelInferResponse and of the messages in it.
MODEL, VERSION, ID, PARAMETERS, OUTPUTS, RAW = range(1, 7)
NAME, DATATYPE, SHAPE, _, CONTENTS = range(1, 6)
KEY, VALUE, TEXT = 1, 2, 3
UINT_CONTENTS, FP32_CONTENTS, BYTES_CONTENTS = 4, 6, 8


def write_infer_response(
    request_id: str | None,
    model: tuple[str, str],
    outputs: Sequence[OutputTensor],
    is_raw: bool,
    warnings: str,
) -> bytes:
    """Write a ModelInferResponse; `model` is name and version, and `warnings` a text in JSON."""
    parts = [
        write_text(MODEL, model[0]),
        write_text(VERSION, model[1]),
        write_text(ID, request_id or ""),
        write_bytes(
            PARAMETERS, write_text(KEY, "warnings") + write_bytes(VALUE, write_text(TEXT, warnings))
        ),
    ]
    blocks: list[bytes] = []
    for output in outputs:
        described = describe_output(output)
        head = write_text(NAME, output.name) + write_text(DATATYPE, described["datatype"])
        head += write_integers(SHAPE, described["shape"])
        if is_raw:
            block = write_block(output.values)
            blocks += [write_head(RAW, len(block)), block]
            parts.append(write_bytes(OUTPUTS, head))
        else:
            contents = _write_contents(output.values)
            contents_head = write_head(CONTENTS, len(contents))
            size = len(head) + len(contents_head) + len(contents)
            parts += [write_head(OUTPUTS, size), head, contents_head, contents]
    return b"".join(parts + blocks)


def write_liveness(is_so: bool) -> bytes:
    """Write a ServerLiveResponse, ServerReadyResponse or ModelReadyResponse."""
    return write_flag(1, is_so)


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


def _write_contents(values: NDArray[Any] | list[list[str]]) -> bytes:
    """Return an output's values as an InferTensorContents."""
    if isinstance(values, list):
        return b"".join(
            write_bytes(BYTES_CONTENTS, text.encode()) for row in values for text in row
        )
    if values.dtype == np.uint8:
        return write_bytes(UINT_CONTENTS, pack_small_integers(values))
    return write_bytes(FP32_CONTENTS, write_block(values))
