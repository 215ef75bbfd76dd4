"""Divides a graph into blocks: parts between which only one tensor passes.

In a ResNet these are the stem and the residual blocks. Knows nothing of precisions.
"""

from itertools import pairwise

import onnx

from training.graph.body import PRODUCT_OPERATORS

MAX_BLOCKS = 10


def divide_into_blocks(body: onnx.ModelProto) -> list[list[str]]:
    """The names of the nodes of each block, in the order of the graph. Each has a product.

    Where there are more than `MAX_BLOCKS`, neighbours with few products are joined.
    """
    blocks: list[list[onnx.NodeProto]] = [[]]
    crossing = count_crossing_tensors(body)
    for node, tensors in zip(body.graph.node, crossing, strict=True):
        blocks[-1].append(node)
        if tensors == 1:
            blocks.append([])
    joined = join_without_products([block for block in blocks if block])
    while len(joined) > MAX_BLOCKS:
        sizes = [count_products(a) + count_products(b) for a, b in pairwise(joined)]
        at = sizes.index(min(sizes))
        joined[at : at + 2] = [joined[at] + joined[at + 1]]
    return [[node.name for node in block] for block in joined]


def count_crossing_tensors(body: onnx.ModelProto) -> list[int]:
    """For each node, how many computed tensors pass from it or earlier nodes to later ones."""
    constants = {tensor.name for tensor in body.graph.initializer}
    last_use = {value.name: len(body.graph.node) for value in body.graph.output}
    for index, node in enumerate(body.graph.node):
        for name in node.input:
            last_use[name] = max(index, last_use.get(name, 0))
    counts, alive = [], {value.name for value in body.graph.input}
    for index, node in enumerate(body.graph.node):
        alive |= {name for name in node.output if name not in constants}
        alive = {name for name in alive if last_use.get(name, -1) > index}
        counts.append(len(alive))
    return counts


def join_without_products(blocks: list[list[onnx.NodeProto]]) -> list[list[onnx.NodeProto]]:
    """Join blocks without a product to the block before, the first ones to the block after."""
    joined: list[list[onnx.NodeProto]] = []
    for block in blocks:
        if joined and (not count_products(block) or not count_products(joined[-1])):
            joined[-1] = joined[-1] + block
        else:
            joined.append(block)
    return joined


def count_products(block: list[onnx.NodeProto]) -> int:
    """The number of products, which take most of the time."""
    return sum(node.op_type in PRODUCT_OPERATORS for node in block)
