"""Lower precision of an exported graph up to the target layer: `fp16` for GPUs, `int8` for CPUs.

Everything after the target layer stays in 32 bits. Alpha comes from the head's weights, so a map is
still exact Grad-CAM of the network that is served. Knows ONNX only; `artifact/precision_loss.py`
measures what the lower precision costs.
"""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from training.errors import UserError
from training.imaging.preprocessing import Pixels

CALIBRATION_PICTURES = 256  # at most
BATCH = 32
PRODUCT_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# The operators that are computed in 8 bits: products, and the operators between them.
INT8_OPERATORS = ("Conv", "Add", "Relu", "Clip", "Concat", "MaxPool", "AveragePool")
FP32_INPUTS = {("Resize", 1), ("Resize", 2)}  # ONNX defines regions and scales in 32 bits


def reduce_precision(proto: onnx.ModelProto, precision: str, pictures: Pixels) -> onnx.ModelProto:
    """The graph with the network up to the target layer in `fp16` or `int8`.

    `pictures` (N, H, W, C) calibrate the ranges of `int8`.

    Raises:
        UserError: the graph's `cam` does not come from a map.
    """
    named = onnx.shape_inference.infer_shapes(proto)
    for index, node in enumerate(named.graph.node):
        node.name = f"{node.op_type}_{index}"
    body = extract_body(named)
    small = convert_to_fp16(body) if precision == "fp16" else quantize_to_int8(body, pictures)
    return replace_body(named, body, small)


def extract_body(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The part from `image` to the target layer's map and whatever else later nodes use."""
    makers = {output: node for node in proto.graph.node for output in node.output}
    # cam = reshape(alpha @ reshape(A)), or sum(G * unsqueeze(A))
    spread = makers[makers[makers["cam"].input[0]].input[1]]
    if spread.op_type not in ("Reshape", "Unsqueeze"):
        raise UserError(
            f"The precision of this graph cannot be lowered: its cam comes from {spread.op_type}, "
            "not from a map. Export it with --precision fp32 or w16."
        )
    todo, inside = [spread.input[0]], set[str]()
    while todo:
        node = makers.get(todo.pop())
        if node is not None and node.name not in inside:
            inside.add(node.name)
            todo.extend(node.input)
    made = {o for node in proto.graph.node if node.name in inside for o in node.output}
    taken = {i for node in proto.graph.node if node.name not in inside for i in node.input}
    return onnx.utils.Extractor(proto).extract_model(["image"], sorted(made & taken))


def replace_body(
    whole: onnx.ModelProto, body: onnx.ModelProto, small: onnx.ModelProto
) -> onnx.ModelProto:
    """The whole graph with `small` in place of `body`, without unused constants and names."""
    replaced = {node.name for node in body.graph.node}
    rest = [node for node in whole.graph.node if node.name not in replaced]
    # Both parts may use one constant, in different types, so the body gets names of its own.
    names = {n for node in small.graph.node for n in (*node.input, *node.output) if n}
    shared = {value.name for value in (*small.graph.input, *small.graph.output)}
    own = {name: name if name in shared else f"body_{name}" for name in names}
    for node in small.graph.node:
        node.input[:] = [own.get(name, name) for name in node.input]
        node.output[:] = [own.get(name, name) for name in node.output]
    for tensor in small.graph.initializer:
        tensor.name = own.get(tensor.name, tensor.name)
    nodes = [*small.graph.node, *rest]
    used = {name for node in nodes for name in node.input}
    tensors = [*small.graph.initializer, *whole.graph.initializer]
    found = onnx.ModelProto()
    found.CopyFrom(whole)
    del found.graph.node[:], found.graph.initializer[:], found.graph.value_info[:]
    found.graph.node.extend(nodes)
    found.graph.initializer.extend(tensor for tensor in tensors if tensor.name in used)
    for node in found.graph.node:
        node.name = ""
    onnx.checker.check_model(found)
    return found


def find_product_range(body: onnx.ModelProto) -> tuple[int, int]:
    """The indices of the first and last product: preprocessing is before, the map after them."""
    at = [i for i, node in enumerate(body.graph.node) if node.op_type in PRODUCT_OPERATORS]
    return at[0], at[-1]


def convert_to_fp16(body: onnx.ModelProto) -> onnx.ModelProto:
    """The body in 16 bits from its first product on. Preprocessing and outputs stay in 32."""
    graph = onnx.shape_inference.infer_shapes(body).graph
    kinds = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    kinds |= {name: tensor.data_type for name, tensor in weights.items()}
    floats = {name for name, kind in kinds.items() if kind == TensorProto.FLOAT}
    first, _ = find_product_range(body)
    nodes, narrowed = list(graph.node[:first]), set[str]()
    for node in graph.node[first:]:
        for i, name in enumerate(node.input):
            if name not in floats or (node.op_type, i) in FP32_INPUTS:
                continue
            narrow = node.input[i] = f"{name}_fp16"
            if narrow in narrowed:
                continue
            narrowed.add(narrow)
            if name in weights:
                small = numpy_helper.to_array(weights[name]).astype(np.float16)
                graph.initializer.append(numpy_helper.from_array(small, narrow))
            else:
                nodes.append(helper.make_node("Cast", [name], [narrow], to=TensorProto.FLOAT16))
        node.output[:] = [f"{name}_fp16" if name in floats else name for name in node.output]
        narrowed |= set(node.output)
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
        nodes.append(node)
    for value in graph.output:
        if f"{value.name}_fp16" in narrowed:
            wide = helper.make_node(
                "Cast", [f"{value.name}_fp16"], [value.name], to=TensorProto.FLOAT
            )
            nodes.append(wide)
    small_body = onnx.ModelProto()
    small_body.CopyFrom(body)
    del small_body.graph.node[:], small_body.graph.initializer[:], small_body.graph.value_info[:]
    small_body.graph.node.extend(nodes)
    small_body.graph.initializer.extend(graph.initializer)
    return small_body


def quantize_to_int8(body: onnx.ModelProto, pictures: Pixels) -> onnx.ModelProto:
    """The body in 8 bits: weights per channel and in 7 of the 8 bits, activations by min and max.

    Processors without an 8-bit dot product add pairs of products in 16 bits. A weight's eighth bit
    would overflow there, and the file would give other answers. Nodes after the last product, whose
    sum is the map, stay in 32 bits.
    """
    first, last = find_product_range(body)
    names = [node.name for node in body.graph.node]
    with silence_logging(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "body.onnx"
        quantize_static(
            body,
            path,
            CalibrationReader(pictures),
            QuantFormat.QDQ,
            op_types_to_quantize=list(INT8_OPERATORS),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*names[:first], *names[last + 1 :]],
            calibrate_method=CalibrationMethod.MinMax,
        )
        return onnx.load(path)


class CalibrationReader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    """Batches of pictures in the form that onnxruntime's calibration reads."""

    def __init__(self, pictures: Pixels) -> None:
        chosen = pictures[:: max(len(pictures) // CALIBRATION_PICTURES, 1)][:CALIBRATION_PICTURES]
        self._batches = iter([chosen[i : i + BATCH] for i in range(0, len(chosen), BATCH)])

    def get_next(self) -> dict[str, Pixels] | None:
        """The next batch as the graph's input, or None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {"image": batch}


@contextmanager
def silence_logging() -> Iterator[None]:
    """Suppress the quantizer's advice on preprocessing, which the exporter has already done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
