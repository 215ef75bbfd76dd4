"""The body of an exported graph: the network from the picture up to the target layer's map.

It is what a lower precision changes. Knows nothing of precisions.
"""

import onnx

from training.errors import UserError

PRODUCT_OPERATORS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def name_nodes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with the types of its tensors, and a name for each node."""
    named = onnx.shape_inference.infer_shapes(proto)
    for index, node in enumerate(named.graph.node):
        node.name = f"{node.op_type}_{index}"
    return named


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
