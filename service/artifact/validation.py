"""The verdict on a model file before any session is made of it: is it what the contract says?

Knows the file on disk, its graph and its card; nothing of onnxruntime, HTTP or pictures. What only
running it can show, `trial` finds out.
"""

import hashlib
import json
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from pydantic import ValidationError
from pydantic_core import to_json

from service.artifact.card import MAX_SIDE, Artifact, Card, InvalidArtifact

METADATA_KEY = "sightglass"
OPSET = 18
STANDARD_DOMAINS = ("", "ai.onnx")
ENDLESS = ("Loop", "Scan")  # the file would choose how long they run

MAX_FILE_BYTES = (1 << 31) - 1  # protobuf's own limit
MAX_CARD_BYTES = 8 << 20
MAX_NODES = 100_000
MAX_DEPTH = 4  # of graphs in graphs

Tensor = onnx.TensorProto
WEIGHTS = (  # what numbers may be stored as
    Tensor.FLOAT, Tensor.FLOAT16, Tensor.DOUBLE, Tensor.BOOL,
    Tensor.INT8, Tensor.INT16, Tensor.INT32, Tensor.INT64,
    Tensor.UINT8, Tensor.UINT16, Tensor.UINT32, Tensor.UINT64,
)  # fmt: skip


def read_artifact(path: Path) -> tuple[Artifact, bytes]:
    """Read and judge one model file; the bytes returned are the ones that were judged.

    Raises:
        BadArtefact: not a whole ONNX file, no valid card, or a graph that does not match it.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise InvalidArtifact(
                f"{path} has {size} bytes; an ONNX file has {MAX_FILE_BYTES} at most."
            )
        content = path.read_bytes()
        model = onnx.load_from_string(content)
    except (OSError, DecodeError, ValueError) as fault:
        raise InvalidArtifact(f"{path} can't be read as an ONNX file: {fault}.") from None
    raw_card = _read_metadata(path, model)
    card = _validate_card(path, raw_card)
    _check_operators(path, model)
    _check_tensors(path, model)
    map_shape = _check_signature(path, model.graph, card)
    _check_attention(path, card, map_shape)
    sha256 = hashlib.sha256(content).hexdigest()
    return Artifact(path, sha256, card, raw_card, map_shape), content


def _read_metadata(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    texts = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    if len(texts) != 1:
        raise InvalidArtifact(
            f"{path} has no '{METADATA_KEY}' card in its metadata: export it anew."
        )
    if len(texts[0]) > MAX_CARD_BYTES:
        raise InvalidArtifact(f"{path} has a card of over {MAX_CARD_BYTES} bytes.")
    try:
        card = json.loads(texts[0])
        to_json(card)  # half a surrogate pair or a thousand brackets could be read, but not told
    except (ValueError, RecursionError) as fault:
        raise InvalidArtifact(f"{path} has a card that is no JSON: {fault}.") from None
    if not isinstance(card, dict):
        raise InvalidArtifact(f"{path} has a card that is no JSON object.")
    return card


def _validate_card(path: Path, raw_card: dict[str, Any]) -> Card:
    try:
        return Card.model_validate(raw_card)
    except ValidationError as fault:
        error = fault.errors(include_url=False)[0]
        where = ".".join(str(step) for step in error["loc"]) or "card"
        raise InvalidArtifact(f"{path} has an invalid card: {where}: {error['msg']}.") from None


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Only the standard domain, and nothing that may run without end."""
    opsets = [opset.version for opset in model.opset_import if opset.domain in STANDARD_DOMAINS]
    if opsets != [OPSET]:
        raise InvalidArtifact(f"{path} has opset {opsets}, not {OPSET}: export it anew.")
    domains = {opset.domain for opset in model.opset_import}
    if strange := sorted(domains - set(STANDARD_DOMAINS)):
        raise InvalidArtifact(f"{path} uses operators outside the standard domain: {strange}.")
    if model.functions:
        raise InvalidArtifact(
            f"{path} defines functions of its own; inline them before the export."
        )
    if model.training_info:
        raise InvalidArtifact(f"{path} carries graphs for training; export it for inference.")
    graphs = list(_graphs(path, model.graph))
    if (count := sum(len(graph.node) for graph in graphs)) > MAX_NODES:
        raise InvalidArtifact(f"{path} has {count} nodes; {MAX_NODES} are the most that is served.")
    for graph in graphs:
        for node in graph.node:
            if node.domain not in STANDARD_DOMAINS:
                raise InvalidArtifact(
                    f"{path} uses the operator '{node.op_type}' outside the standard domain, of "
                    f"'{node.domain}'."
                )
            if node.op_type in ENDLESS:
                raise InvalidArtifact(
                    f"{path} has a '{node.op_type}', which may run without end: export it unrolled."
                )


def _check_tensors(path: Path, model: onnx.ModelProto) -> None:
    """Every tensor is kept inside the file, and has as many values as it says."""
    for graph in _graphs(path, model.graph):
        if graph.sparse_initializer:
            raise InvalidArtifact(f"{path} has sparse tensors; store them dense.")
        for tensor in _tensors(graph):
            if tensor.data_location == Tensor.EXTERNAL or tensor.external_data:
                raise InvalidArtifact(
                    f"{path} keeps '{tensor.name}' outside the file; one file, please."
                )
            if tensor.data_type not in WEIGHTS:
                raise InvalidArtifact(
                    f"{path} stores '{tensor.name}' as datatype {tensor.data_type}, which is none "
                    "of the plain numbers."
                )
            if min(tensor.dims, default=0) < 0 or prod(tensor.dims) != _count_values(tensor):
                raise InvalidArtifact(
                    f"{path} has '{tensor.name}' of shape {list(tensor.dims)}, which is not as "
                    f"many values as it holds."
                )


def _count_values(tensor: onnx.TensorProto) -> int:
    """The values that a tensor holds; -1 where its bytes are no whole number of them."""
    if tensor.HasField("raw_data"):
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        whole, left = divmod(len(tensor.raw_data), size)
        return -1 if left else whole
    return max(
        len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data),
        len(tensor.double_data), len(tensor.uint64_data),
    )  # fmt: skip


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor a graph holds, initialisers and constants."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            for sparse in attribute.sparse_tensors:
                yield from (sparse.values, sparse.indices)


def _graphs(path: Path, graph: onnx.GraphProto, depth: int = 1) -> Iterator[onnx.GraphProto]:
    """The graph and every graph nested in an attribute."""
    if depth > MAX_DEPTH:
        raise InvalidArtifact(f"{path} has graphs nested over {MAX_DEPTH} deep.")
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            nested = [attribute.g] if attribute.HasField("g") else []
            for inner in (*nested, *attribute.graphs):
                yield from _graphs(path, inner, depth + 1)


def _check_signature(path: Path, graph: onnx.GraphProto, card: Card) -> tuple[int, int]:
    """Names, dtypes and shapes of inputs and outputs; returns the map's (h, w)."""
    held = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in held}
    outputs = {value.name: value for value in graph.output}
    pixels = (card.input.height, card.input.width, card.input.channels)
    labels = len(card.labels)
    wanted: list[tuple[dict[str, onnx.ValueInfoProto], str, int, tuple[int | None, ...]]] = [
        (inputs, "image", Tensor.UINT8, (None, *pixels)),
        (inputs, "target", Tensor.INT64, (None, None)),
        (outputs, "logits", Tensor.FLOAT, (None, labels)),
        (outputs, "probabilities", Tensor.FLOAT, (None, labels)),
        (outputs, "cam", Tensor.FLOAT, (None, None, 0, 0)),  # 0: any fixed size
    ]
    for values, name, dtype, shape in wanted:
        if name not in values:
            raise InvalidArtifact(f"{path} has no '{name}' among its inputs and outputs.")
        _check_value(path, values[name], dtype, shape)
    strange = sorted((set(inputs) | set(outputs)) - {name for _, name, _, _ in wanted})
    if strange:
        raise InvalidArtifact(
            f"{path} has inputs or outputs that the contract does not know: {strange}."
        )
    height, width = _shape(outputs["cam"])[2:]
    if not (height and width and max(height, width) <= MAX_SIDE):
        raise InvalidArtifact(f"{path} has maps of {height} x {width}; {MAX_SIDE} is the most.")
    return height, width


def _check_attention(path: Path, card: Card, map_shape: tuple[int, int]) -> None:
    """The mean maps of the card are of the graph's own size."""
    if card.attention is None:
        return
    height, width = map_shape
    for known in (card.attention, *card.attention.classes.values()):
        if known.mean is not None and [len(row) for row in known.mean] != [width] * height:
            raise InvalidArtifact(
                f"{path} has a mean map in its card that is not of the graph's {map_shape}."
            )


def _check_value(
    path: Path, value: onnx.ValueInfoProto, dtype: int, wanted: tuple[int | None, ...]
) -> None:
    """A size of None must be dynamic, 0 any fixed one, all others as they are."""
    found_dtype = value.type.tensor_type.elem_type
    if found_dtype != dtype:
        names = {number: name for name, number in Tensor.DataType.items()}
        told = names.get(found_dtype, found_dtype)
        raise InvalidArtifact(f"{path} has '{value.name}' as {told}, not {names[dtype]}.")
    found = _shape(value)
    fits = len(found) == len(wanted) and all(
        have is not None and (want == have or (want == 0 and have > 0))
        if want is not None
        else have is None
        for have, want in zip(found, wanted, strict=True)
    )
    if not fits:
        sizes = [{None: "dynamic", 0: "fixed"}.get(size, size) for size in wanted]
        raise InvalidArtifact(
            f"{path} has '{value.name}' of shape {list(found)}; the card implies {sizes}."
        )


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """The sizes of a tensor; None is a dynamic one."""
    return tuple(
        size.dim_value if size.HasField("dim_value") else None
        for size in value.type.tensor_type.shape.dim
    )
