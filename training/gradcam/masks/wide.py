"""Runs a traced gradient for T cotangents per picture, and the rest of its graph once per picture.

Nodes that depend on the cotangent get N T rows. What they take from the forward pass, such as the
gates of activations, has N rows and is broadcast where the operation allows it, or else repeated.
Knows nothing of what the graph computes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.fx.node import map_arg

from training.errors import UserError

aten = torch.ops.aten
Tensor = torch.Tensor

# Operations on each number by itself, which broadcast.
ELEMENTWISE = {
    *(aten.mul.Tensor, aten.add.Tensor, aten.sub.Tensor, aten.div.Tensor, aten.where.self),
    *(aten.neg.default, aten.mul.Scalar, aten.add.Scalar, aten.div.Scalar),
    aten.threshold_backward.default,
}


class Wide:
    """One run of a graph over `image` and `cotangent`, whose gradient is for N T cotangents.

    The graph returns values that do not depend on the cotangent, then the gradient.
    """

    def __init__(self, graph: GraphModule, image: Tensor) -> None:
        self.graph, self.image = graph, image
        self.inputs = graph.graph.find_nodes(op="placeholder")
        self.batch = self.inputs[0].meta["val"].shape[0]
        self.wide = find_dependents(self.inputs[1])
        self.narrow: dict[Node, Any] = {self.inputs[0]: image}
        self.values: dict[Node, Any] = {}
        self.sizes: dict[Node, Any] = {}  # the sizes that a wide node takes

    def run_forward(self) -> list[Any]:
        """The values that do not depend on the cotangent."""
        for node in self.graph.graph.nodes:
            if node not in self.wide and node.op in ("call_function", "get_attr"):
                self.narrow[node] = self.run_narrow(node)
        outputs = self.graph.graph.output_node().args[0]
        assert isinstance(outputs, Sequence)
        return [self.narrow[node] for node in outputs[:-1]]  # type: ignore[index]

    def run_backward(self, cotangent: Tensor, targets: Any) -> Tensor:
        """The gradient (N T, …) of a cotangent (N T, …)."""
        self.targets, self.values[self.inputs[1]] = targets, cotangent
        for node in self.graph.graph.nodes:
            if node in self.wide and node.op == "call_function":
                self.values[node] = self.run_wide(node)
        outputs = self.graph.graph.output_node().args[0]
        assert isinstance(outputs, Sequence)
        return self.values[outputs[-1]]  # type: ignore[index,no-any-return]

    def run_narrow(self, node: Node) -> Any:
        if node.op == "get_attr":
            return get_attribute(self.graph, str(node.target))
        if is_size_of(node, self.inputs[1]):
            return get_size(self.image, node)
        args, options = replace_arguments(node, lambda n: self.narrow[n])
        return call(node)(*args, **options)

    def run_wide(self, node: Node) -> Any:
        if node.target in ELEMENTWISE:
            return self.run_elementwise(node)
        args, options = replace_arguments(node, self.widen)
        return call(node)(*args, **options)

    def run_elementwise(self, node: Node) -> Tensor:
        """Run on (N, T, …), with one row per picture as (N, 1, …)."""

        def spread(argument: Node) -> Any:
            if argument in self.wide:
                value = self.values[argument]
                return value.reshape(self.image.shape[0], self.targets, *value.shape[1:])
            value = self.narrow[argument]
            if isinstance(value, Tensor) and self.has_rows(argument):
                return value[:, None]
            return value

        args, options = replace_arguments(node, spread)
        if node.target is aten.threshold_backward.default:
            gradient, output, threshold = args
            found = torch.where(output <= threshold, 0.0, gradient)
        else:
            found = call(node)(*args, **options)
        spread_out: Tensor = found.flatten(0, 1)
        return spread_out

    def widen(self, node: Node) -> Any:
        """The value of an argument with N T rows in the place of N."""
        if node in self.wide:
            return self.values[node]
        value = self.narrow[node]
        if isinstance(value, Tensor) and self.has_rows(node):
            n, *sizes = value.shape
            return value[:, None].expand(n, self.targets, *sizes).reshape(n * self.targets, *sizes)
        if isinstance(value, torch.SymInt):
            return self.widen_size(node)
        return value

    def widen_size(self, node: Node) -> Any:
        """A size with N T in the place of N."""
        if node not in self.sizes:
            if statically_known_true(node.meta["val"] == self.batch):
                self.sizes[node] = self.image.shape[0] * self.targets
            else:
                args = map_arg(
                    node.args,
                    lambda n: (
                        self.widen_size(n)
                        if isinstance(self.narrow[n], torch.SymInt)
                        else self.narrow[n]
                    ),
                )
                self.sizes[node] = call(node)(*args)
        return self.sizes[node]

    def has_rows(self, node: Node) -> bool:
        """Whether a tensor has one row per picture; refuses those with pictures on other axes."""
        shape = node.meta["val"].shape
        if shape and statically_known_true(shape[0] == self.batch):
            return True
        if any(isinstance(size, torch.SymInt) for size in shape):
            raise UserError(
                "The gradient after the target layer mixes the pictures of a batch with other "
                "axes. Choose another layer."
            )
        return False


def find_dependents(source: Node) -> set[Node]:
    """The node and all that depend on its values; its sizes are no values."""
    found = {source}
    for node in source.graph.nodes:
        if node.op == "output" or is_size_of(node, source):
            continue
        if any(argument in found for argument in node.all_input_nodes) and not is_size(node):
            found.add(node)
    return found


def is_size(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt)


def is_size_of(node: Node, source: Node) -> bool:
    return is_size(node) and bool(node.args) and node.args[0] is source


def get_size(tensor: Tensor, node: Node) -> Any:
    axis = node.args[1]
    assert axis == 0
    return tensor.shape[0]


def replace_arguments(node: Node, read: Callable[[Node], Any]) -> Any:
    """The arguments of a node, with the values that `read` returns in the place of nodes."""
    return map_arg((node.args, node.kwargs), read)


def call(node: Node) -> Callable[..., Any]:
    """The function of a node."""
    assert callable(node.target)
    return node.target


def get_attribute(graph: GraphModule, name: str) -> Any:
    """A constant of the graph."""
    value: Any = graph
    for part in name.split("."):
        value = getattr(value, part)
    return value
