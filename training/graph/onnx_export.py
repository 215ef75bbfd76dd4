"""Export to ONNX: named inputs and outputs, opset 18, and no node or note without use.

Knows nothing of cards, checks or folders.
"""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch.fx import GraphModule

from training.graph.stored_weights import share_transposed_weights

OUTPUTS = ("logits", "probabilities", "cam", "alpha")
MASK_OUTPUTS = ("mask", "probabilities", "cam")
OPSET = 18


def export_traced_graph(
    graph: GraphModule, image: torch.Tensor, target: torch.Tensor, alpha: bool = False
) -> onnx.ModelProto:
    """The ONNX model of a traced graph. With `alpha`, for tests, it has alpha as fourth output."""
    if not alpha:
        (output,) = graph.graph.find_nodes(op="output")
        output.args = (output.args[0][:3],)
        graph.graph.eliminate_dead_code()
        graph.recompile()
    names = OUTPUTS[: 4 if alpha else 3]
    return export_dynamic_graph(graph, {"image": image, "target": target}, names)


def export_dynamic_graph(
    graph: GraphModule, inputs: dict[str, torch.Tensor], outputs: tuple[str, ...]
) -> onnx.ModelProto:
    """The model of a traced graph. N is the first size of all inputs, T the next of targets."""
    n, t = torch.export.Dim("N", max=2**20), torch.export.Dim("T", max=2**20)
    sizes = tuple({0: n} if name == "image" else {0: n, 1: t} for name in inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            graph, tuple(inputs.values()), dynamic_shapes=sizes, strict=False
        )
        exported = torch.onnx.export(
            program,
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    name_dimensions(exported.model)
    fix_reshape_sizes(exported.model)
    keep_transposes_apart(exported.model)
    proto = strip_metadata(exported.model)
    share_transposed_weights(proto)
    return proto


def export_prediction_graph(
    run: Callable[..., Any], image: torch.Tensor, outputs: tuple[str, ...] = OUTPUTS[:2]
) -> onnx.ModelProto:
    """The ONNX model of a prediction without explanation, by default logits and probabilities."""

    class Module(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> Any:
            return run(image)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.onnx.export(
            Module(),
            (image,),
            input_names=["image"],
            output_names=list(outputs),
            opset_version=OPSET,
            dynamic_shapes=({0: torch.export.Dim("N", max=2**20)},),
            dynamo=True,
            verbose=False,
        )
    assert exported is not None
    return strip_metadata(exported.model)


def name_dimensions(model: ir.Model) -> None:
    """Name the dynamic dimensions in all shapes: N for the batch, T for the targets, also N*T."""
    target = next(value for value in model.graph.inputs if value.name == "target")
    assert target.shape is not None
    names = dict(zip((str(size) for size in target.shape), ("N", "T"), strict=True))
    for value in {
        *model.graph.inputs,
        *(output for node in model.graph for output in node.outputs),
    }:
        if value.shape is not None:
            sizes = [s if isinstance(s, int) else rename_sizes(str(s), names) for s in value.shape]
            value.shape = ir.Shape(sizes)


def rename_sizes(term: str, names: dict[str, str]) -> str:
    """A term of symbolic sizes, such as `s1*s2`, with other names for them."""
    return re.sub(r"\w+", lambda found: names.get(found[0], found[0]), term)


def fix_reshape_sizes(model: ir.Model) -> None:
    """Give reshapes that keep their leading dynamic sizes a constant shape."""
    for node in model.graph:
        if node.op_type != "Reshape" or node.inputs[0] is None:
            continue
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if before is None or after is None:
            continue
        sizes: list[int] = []
        for i, size in enumerate(after):
            if isinstance(size, int):
                sizes.append(size)
            elif i < len(before) and str(before[i]) == str(size):
                sizes.append(0)  # 0: the size of the input
        if len(sizes) < len(after) or any(size == 0 for size in after):
            continue
        shape = ir.tensor(np.array(sizes, np.int64), name=f"{node.outputs[0].name}_shape")
        value = ir.val(shape.name, const_value=shape)
        model.graph.register_initializer(value)
        node.replace_input_with(1, value)
        node.attributes["allowzero"] = ir.AttrInt64("allowzero", 0)


def keep_transposes_apart(model: ir.Model) -> None:
    """Put a reshape without effect between a transpose and a product whose rows are targets.

    onnxruntime 1.31 fuses the two, and its fused kernel does not run on no rows if the other factor
    is a matrix for all rows.
    """
    for node in [*model.graph]:
        left = node.inputs[0] if node.op_type == "MatMul" else None
        source = left.producer() if left is not None else None
        if left is None or source is None or source.op_type != "Transpose":
            continue
        right, rows = node.inputs[1], node.outputs[0].shape
        if left.shape is None or right is None or right.shape is None or rows is None:
            continue
        if len(right.shape) > 2 or len(left.shape) < 3 or str(rows[0]) == "N":
            continue
        name = f"{node.outputs[0].name}_left"
        sizes = ir.val(f"{name}_shape", const_value=ir.tensor(np.zeros(len(left.shape), np.int64)))
        model.graph.register_initializer(sizes)
        reshape = ir.node("Reshape", [left, sizes])  # 0: the size of the input
        reshape.outputs[0].name = name
        model.graph.insert_before(node, reshape)
        node.replace_input_with(0, reshape.outputs[0])


def strip_metadata(model: ir.Model) -> onnx.ModelProto:
    """The model without dead nodes, unused constants and the exporter's metadata."""
    from onnx_ir.passes import common

    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    proto: onnx.ModelProto = ir.to_proto(model)
    for node in proto.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for values in (
        proto.graph.value_info,
        proto.graph.input,
        proto.graph.output,
        proto.graph.initializer,
    ):
        for value in values:
            value.ClearField("metadata_props")
            value.ClearField("doc_string")
    keep_repeated_shapes(proto.graph)
    proto.graph.ClearField("metadata_props")
    proto.ClearField("metadata_props")
    proto.graph.name = "classifier"
    proto.producer_name, proto.producer_version = "sightglass", ""
    proto.ir_version = 10
    onnx.checker.check_model(proto)
    return proto


def keep_repeated_shapes(graph: onnx.GraphProto) -> None:
    """Keep the shapes of rows that are repeated once per target; remove all others.

    onnxruntime 1.31 reshapes two blocked maps before it adds them unless it knows that they have
    equally many rows, and that reshape does not run on no rows.
    """
    reshaped = {name for node in graph.node if node.op_type == "Reshape" for name in node.output}
    kept = [
        value
        for value in graph.value_info
        if value.name in reshaped
        and any("*" in size.dim_param for size in value.type.tensor_type.shape.dim[:1])
    ]
    del graph.value_info[:]
    graph.value_info.extend(kept)
