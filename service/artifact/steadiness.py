"""Finds out whether a graph does the same work for every picture.

The event loop itself runs only models that do. Others were quick with the pictures of their trial
and may take seconds for another one, because the file lets pixels decide how large a tensor is.
"""

import onnx

FIXED = frozenset((  # what they make has a size that follows from the sizes of what they get
    "Abs", "Add", "And", "ArgMax", "ArgMin", "AveragePool", "BatchNormalization", "Cast", "Ceil",
    "Celu", "Clip", "Concat", "Constant", "Conv", "ConvInteger", "ConvTranspose", "Cos", "CumSum",
    "DepthToSpace", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Einsum", "Elu", "Equal",
    "Erf", "Exp", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "GreaterOrEqual", "GroupNormalization",
    "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "IsNaN", "LRN",
    "LayerNormalization", "LeakyRelu", "Less", "LessOrEqual", "Log", "LogSoftmax", "MatMul",
    "MatMulInteger", "Max", "MaxPool", "Mean", "Min", "Mish", "Mod", "Mul", "Neg", "Not", "Or",
    "PRelu", "Pow", "QLinearConv", "QLinearMatMul", "QuantizeLinear", "Reciprocal", "Relu", "Round",
    "ScatterElements", "ScatterND", "Selu", "Shape", "Sigmoid", "Sign", "Sin", "Size", "Softmax",
    "Softplus", "Softsign", "SpaceToDepth", "Sqrt", "Sub", "Sum", "Tanh", "Transpose", "Where",
    "Xor",
))  # fmt: skip
SIZED: dict[str, tuple[int, ...]] = {  # sizes follow from the values of these inputs, too
    "ConstantOfShape": (0,), "Expand": (1,), "Pad": (1, 3), "ReduceL1": (1,), "ReduceL2": (1,),
    "ReduceMax": (1,), "ReduceMean": (1,), "ReduceMin": (1,), "ReduceProd": (1,),
    "ReduceSum": (1,), "ReduceSumSquare": (1,), "Reshape": (1,), "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4), "Split": (1,), "Squeeze": (1,), "Tile": (1,), "TopK": (1,),
    "Unsqueeze": (1,),
}  # fmt: skip
MEASURES = ("Shape", "Size")  # what they make does not depend on values


def is_steady(graph: onnx.GraphProto) -> bool:
    """Return whether no size in the graph depends on the values of its inputs.

    False as well if the graph has an operator of which that is not known.
    """
    varying = _find_varying(graph)
    for node in graph.node:
        places = () if node.op_type in FIXED else SIZED.get(node.op_type)
        if places is None or varying.intersection(_pick(node, places)):
            return False
    return True


def _find_varying(graph: onnx.GraphProto) -> set[str]:
    """Return the names of the tensors whose values depend on those of the inputs."""
    varying = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    known = 0
    while len(varying) > known:  # a file need not have its nodes in the order in which they run
        known = len(varying)
        for node in graph.node:
            if node.op_type not in MEASURES and varying.intersection(node.input):
                varying.update(node.output)
    return varying


def _pick(node: onnx.NodeProto, places: tuple[int, ...]) -> list[str]:
    """Return the names of the inputs at these places, as far as the node has them."""
    return [node.input[place] for place in places if place < len(node.input)]
