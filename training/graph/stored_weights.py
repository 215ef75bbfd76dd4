"""How a model file holds its weights: each matrix once, and in 16 bits where that is exact.

Knows nothing of what the graph computes.
"""

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import numpy_helper

MIN_HALF_WEIGHTS = 256  # weights with fewer numbers stay in 32 bits


def share_transposed_weights(proto: onnx.ModelProto) -> None:
    """Let a linear layer read its weights as the explanation does, instead of a transposed copy."""
    weights = {weight.name: weight for weight in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type != "Gemm" or node.input[1] not in weights:
            continue
        own = weights[node.input[1]]
        kept = [attribute for attribute in node.attribute if attribute.name != "transB"]
        turned = any(a.i for a in node.attribute if a.name == "transB")
        if turned or len(find_users(proto, own.name)) > 1:
            continue
        same = find_transposed(own, weights.values())
        if same is not None:
            node.input[1] = same.name
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("transB", 1)])
            proto.graph.initializer.remove(own)
            del weights[own.name]


def find_users(proto: onnx.ModelProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that read a value."""
    return [node for node in proto.graph.node if name in node.input]


def find_transposed(
    weight: onnx.TensorProto, others: Iterable[onnx.TensorProto]
) -> onnx.TensorProto | None:
    """The first of the others that holds the transpose of this weight, or None."""
    sizes, kind = [*weight.dims][::-1], weight.data_type
    fitting = [w for w in others if w is not weight and [*w.dims] == sizes and w.data_type == kind]
    values = numpy_helper.to_array(weight).T
    return next((w for w in fitting if np.array_equal(numpy_helper.to_array(w), values)), None)


def store_half_weights(proto: onnx.ModelProto) -> None:
    """Store weights in 16 bits if that is exact; a runtime folds the added casts on loading."""
    casts = []
    for weight in proto.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) < MIN_HALF_WEIGHTS:
            continue
        values = numpy_helper.to_array(weight)
        small = values.astype(np.float16)
        if not np.array_equal(values, small.astype(np.float32)):
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(small, f"{name}_half"))
        casts.append(
            onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT)
        )
    nodes = [*casts, *proto.graph.node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
