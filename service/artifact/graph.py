"""Checks the graph of a model file: operators, tensors, inputs and outputs.

Knows ONNX and the card, but no file and no onnxruntime. `path` is for error messages only.
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path

import onnx

from service.artifact.card import FAMILIARITY, MAX_SIDE, Card, InvalidArtifact

# By name: datatype and shape. None is a dynamic size, 0 any fixed size.
Signature = dict[str, tuple[int, tuple[int | None, ...]]]

OPSET = 18
STANDARD_DOMAINS = ("", "ai.onnx")
UNBOUNDED = ("Loop", "Scan")  # the file decides how long they run
MAX_NODES = 100_000
MAX_ATTRIBUTES = 1_000_000  # of all nodes
MAX_RANK = 32  # of a tensor; the product of more sizes takes long
MAX_DEPTH = 4  # of nested graphs
MAX_PLANES_BYTES = 16 << 20  # of the probabilities of one image that is segmented
REGION_SIZE = 5  # of, left, top, right, bottom

Tensor = onnx.TensorProto
DATATYPES = (  # that tensors may be stored as
    Tensor.FLOAT, Tensor.FLOAT16, Tensor.DOUBLE, Tensor.BOOL,
    Tensor.INT8, Tensor.INT16, Tensor.INT32, Tensor.INT64,
    Tensor.UINT8, Tensor.UINT16, Tensor.UINT32, Tensor.UINT64,
)  # fmt: skip


def check_graph(path: Path, model: onnx.ModelProto, card: Card) -> tuple[int, int]:
    """Check that a graph follows the contract and matches its card; return the map's (h, w).

    Raises:
        InvalidArtifact: it does not.
    """
    _check_operators(path, model)
    _check_tensors(path, model)
    return _check_signature(path, model.graph, card)


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Allow only operators of the standard domain whose run time is bounded."""
    opsets = [opset.version for opset in model.opset_import if opset.domain in STANDARD_DOMAINS]
    if opsets != [OPSET]:
        raise InvalidArtifact(
            f"{path} has opset {opsets}; expected [{OPSET}]: export the model again."
        )
    domains = {opset.domain for opset in model.opset_import}
    if unknown := sorted(domains - set(STANDARD_DOMAINS)):
        raise InvalidArtifact(f"{path} uses operators outside the standard domain: {unknown}.")
    if model.functions:
        raise InvalidArtifact(
            f"{path} defines functions of its own; inline them before the export."
        )
    if model.training_info:
        raise InvalidArtifact(f"{path} contains training graphs; export the model for inference.")
    graphs = list(_iterate_graphs(path, model.graph))
    if (count := sum(len(graph.node) for graph in graphs)) > MAX_NODES:
        raise InvalidArtifact(f"{path} has {count} nodes; at most {MAX_NODES} are allowed.")
    for graph in graphs:
        for node in graph.node:
            if node.domain not in STANDARD_DOMAINS:
                raise InvalidArtifact(
                    f"{path} uses the operator '{node.op_type}' of '{node.domain}', which is "
                    "outside the standard domain."
                )
            if node.op_type in UNBOUNDED:
                raise InvalidArtifact(
                    f"{path} uses '{node.op_type}', which may run without end: export it unrolled."
                )


def _check_tensors(path: Path, model: onnx.ModelProto) -> None:
    """Check that every tensor is inside the file and holds as many values as it declares."""
    for graph in _iterate_graphs(path, model.graph):
        if graph.sparse_initializer:
            raise InvalidArtifact(f"{path} has sparse tensors; store them as dense tensors.")
        for tensor in _iterate_tensors(graph):
            if tensor.data_location == Tensor.EXTERNAL or tensor.external_data:
                raise InvalidArtifact(
                    f"{path} stores '{tensor.name}' outside the file; store everything in one file."
                )
            if tensor.data_type not in DATATYPES:
                raise InvalidArtifact(
                    f"{path} stores '{tensor.name}' as datatype {tensor.data_type}, which is not a "
                    "number type."
                )
            if len(tensor.dims) > MAX_RANK:
                raise InvalidArtifact(
                    f"{path} declares '{tensor.name}' with {len(tensor.dims)} dimensions; at most "
                    f"{MAX_RANK} are allowed."
                )
            if min(tensor.dims, default=0) < 0 or prod(tensor.dims) != _count_values(tensor):
                raise InvalidArtifact(
                    f"{path} declares '{tensor.name}' with shape {list(tensor.dims)}, which does "
                    "not match the number of values it holds."
                )


def _count_values(tensor: onnx.TensorProto) -> int:
    """Return how many values a tensor holds; -1 if its bytes are no whole number of values."""
    if tensor.HasField("raw_data"):
        size = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        count, remainder = divmod(len(tensor.raw_data), size)
        return -1 if remainder else count
    return max(
        len(tensor.float_data), len(tensor.int32_data), len(tensor.int64_data),
        len(tensor.double_data), len(tensor.uint64_data),
    )  # fmt: skip


def _iterate_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of a graph: initialisers and constants."""
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


def _iterate_graphs(
    path: Path, graph: onnx.GraphProto, depth: int = 1
) -> Iterator[onnx.GraphProto]:
    """Yield the graph and every graph nested in an attribute."""
    if depth > MAX_DEPTH:
        raise InvalidArtifact(f"{path} has graphs nested more than {MAX_DEPTH} deep.")
    if (count := sum(len(node.attribute) for node in graph.node)) > MAX_ATTRIBUTES:
        raise InvalidArtifact(
            f"{path} has {count} attributes; at most {MAX_ATTRIBUTES} are allowed."
        )
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            nested = [attribute.g] if attribute.HasField("g") else []
            for inner in (*nested, *attribute.graphs):
                yield from _iterate_graphs(path, inner, depth + 1)


def _check_signature(path: Path, graph: onnx.GraphProto, card: Card) -> tuple[int, int]:
    """Check names, datatypes and shapes of inputs and outputs; return the map's (h, w)."""
    initialized = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in initialized}
    outputs = {value.name: value for value in graph.output}
    expected_inputs, expected_outputs = _list_expected(card)
    if FAMILIARITY in outputs and not card.segments:
        expected_outputs[FAMILIARITY] = (Tensor.FLOAT, (None,))
    for values, expected in ((inputs, expected_inputs), (outputs, expected_outputs)):
        for name, (dtype, shape) in expected.items():
            if name not in values:
                raise InvalidArtifact(f"{path} has no '{name}' among its inputs and outputs.")
            _check_value(path, values[name], dtype, shape)
    unknown = sorted((set(inputs) | set(outputs)) - {*expected_inputs, *expected_outputs})
    if unknown:
        raise InvalidArtifact(
            f"{path} has inputs or outputs that are not part of the contract: {unknown}."
        )
    planes = 4 * len(card.labels) * card.input.height * card.input.width
    if card.segments and planes > MAX_PLANES_BYTES:
        raise InvalidArtifact(
            f"{path} has {planes} bytes of probabilities for one image; at most {MAX_PLANES_BYTES} "
            "are allowed."
        )
    height, width = _read_shape(outputs["cam"])[2:]
    if not (height and width and max(height, width) <= MAX_SIDE):
        raise InvalidArtifact(
            f"{path} has maps of {height} x {width}; the largest allowed side is {MAX_SIDE}."
        )
    return height, width


def _list_expected(card: Card) -> tuple[Signature, Signature]:
    """Return the inputs and the outputs that the graph of this card must have."""
    size, labels = (card.input.height, card.input.width), len(card.labels)
    inputs: Signature = {
        "image": (Tensor.UINT8, (None, *size, card.input.channels)),
        "target": (Tensor.INT64, (None, None)),
    }
    maps = (Tensor.FLOAT, (None, None, 0, 0))
    if card.segments:
        planes = (None, labels, *size)
        inputs["region"] = (Tensor.INT64, (None, None, REGION_SIZE))
        return inputs, {
            "mask": (Tensor.UINT8, (None, *size)),
            "probabilities": (Tensor.FLOAT, planes),
            "cam": maps,
        }
    scores = (Tensor.FLOAT, (None, labels))
    outputs: Signature = {"logits": scores, "probabilities": scores, "cam": maps}
    if FAMILIARITY in card.outputs:
        outputs[FAMILIARITY] = (Tensor.FLOAT, (None,))
    return inputs, outputs


def _check_value(
    path: Path, value: onnx.ValueInfoProto, dtype: int, expected: tuple[int | None, ...]
) -> None:
    """Check datatype and shape: None is a dynamic size, 0 any fixed size."""
    found_dtype = value.type.tensor_type.elem_type
    if found_dtype != dtype:
        names = {number: name for name, number in Tensor.DataType.items()}
        found_name = names.get(found_dtype, found_dtype)
        raise InvalidArtifact(
            f"{path} has '{value.name}' as {found_name}; expected {names[dtype]}."
        )
    found = _read_shape(value)
    matches = len(found) == len(expected) and all(
        actual is not None and (size == actual or (size == 0 and actual > 0))
        if size is not None
        else actual is None
        for actual, size in zip(found, expected, strict=True)
    )
    if not matches:
        sizes = [{None: "dynamic", 0: "fixed"}.get(size, size) for size in expected]
        raise InvalidArtifact(
            f"{path} has '{value.name}' of shape {list(found)}; the card implies {sizes}."
        )


def _read_shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """Return the sizes of a tensor; None is a dynamic size."""
    return tuple(
        size.dim_value if size.HasField("dim_value") else None
        for size in value.type.tensor_type.shape.dim
    )
