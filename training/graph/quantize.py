"""Lower precision of an exported graph up to the target layer: `fp16` for GPUs, `int8` for CPUs.

Everything after the target layer stays in 32 bits. Alpha comes from the head's weights, so a map is
still exact Grad-CAM of the network that is served. Knows ONNX only; `artifact/precision_loss.py`
measures what the lower precision costs.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from training.graph.body import extract_body, find_product_range, name_nodes, replace_body
from training.graph.int8.candidates import Candidate, CandidateGraphs
from training.imaging.preprocessing import Pixels

FP32_INPUTS = {("Resize", 1), ("Resize", 2)}  # ONNX defines regions and scales in 32 bits


def reduce_precision(proto: onnx.ModelProto, precision: str, pictures: Pixels) -> onnx.ModelProto:
    """The graph with the network up to the target layer in `fp16` or `int8`.

    `pictures` (N, H, W, C) calibrate the ranges of `int8`.

    Raises:
        UserError: the graph's `cam` does not come from a map.
    """
    if precision == "int8":
        return CandidateGraphs(proto, pictures).make(Candidate())
    named = name_nodes(proto)
    body = extract_body(named)
    return replace_body(named, body, convert_to_fp16(body))


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
