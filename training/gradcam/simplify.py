"""Removes what tracing adds to a graph: copies, reshapes without effect, expanded products.

Knows nothing of what the graph computes.
"""

import torch
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import statically_known_true

aten = torch.ops.aten

COPY_OPERATIONS = {aten.clone.default, aten.alias.default, aten.detach.default}
SHAPE_OPERATIONS = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.expand.default,
    aten.reshape.default,
}


def simplify_graph(graph: GraphModule) -> GraphModule:
    """The same function with fewer nodes; the graph is changed in place."""
    copies = COPY_OPERATIONS - ({aten.clone.default} if changes_in_place(graph) else set())
    for node in list(graph.graph.nodes):
        if node.op != "call_function":
            continue
        source = node.args[0] if node.args else None
        if node.target in copies or (node.target in SHAPE_OPERATIONS and keeps_shape(node, source)):
            node.replace_all_uses_with(source)
        elif node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default  # without the copies, strides differ
        elif node.target is aten.permute.default:
            join_permutations(node)
        elif node.target is aten.bmm.default:  # matmul broadcasts
            node.target = aten.matmul.default
            # Not the first factor: onnxruntime does not repeat that for no rows.
            node.args = (node.args[0], unexpand_matrix(node.args[1]))
        elif node.target is aten.mm.default:
            unflatten_product(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def changes_in_place(graph: GraphModule) -> bool:
    """Whether an operation writes into its input, so that a copy may have to differ from it."""
    return any(
        isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable
        for node in graph.graph.nodes
    )


def join_permutations(node: Node) -> None:
    """Permute once instead of twice, or not at all if the second permutation undoes the first."""
    source, order = node.args
    if not isinstance(source, Node) or source.target is not aten.permute.default:
        return
    original, before = source.args
    assert isinstance(original, Node)
    assert isinstance(before, list | tuple)
    assert isinstance(order, list | tuple)
    joined = [before[axis] for axis in order]  # type: ignore[index]
    if joined == list(range(len(joined))):
        node.replace_all_uses_with(original)
    else:
        node.args = (original, joined)


def unflatten_product(product: Node) -> None:
    """Multiply rows as they are, instead of flattening them before a product and restoring them."""
    rows, weight = product.args
    for node in list(product.users):
        if not (
            isinstance(rows, Node)
            and rows.target in SHAPE_OPERATIONS
            and node.target in SHAPE_OPERATIONS
        ):
            return
        source = rows.args[0]
        assert isinstance(source, Node)
        before, after = source.meta["val"].shape, node.meta["val"].shape
        if len(before) == len(after) == 3 and all(
            statically_known_true(a == b) for a, b in zip(before[:2], after[:2], strict=True)
        ):
            node.target, node.args = aten.matmul.default, (source, weight)


def keeps_shape(node: Node, source: object) -> bool:
    """Whether a shape operation leaves the shape unchanged."""
    if not isinstance(source, Node):
        return False
    before, after = source.meta["val"].shape, node.meta["val"].shape
    return len(before) == len(after) and all(
        statically_known_true(a == b) for a, b in zip(before, after, strict=True)
    )


def unexpand_matrix(node: object) -> object:
    """The matrix before it was expanded for a batched product."""
    if isinstance(node, Node) and node.target is aten.expand.default:
        source = node.args[0]
        if isinstance(source, Node) and source.meta["val"].ndim == 2:
            return source
    return node
