"""Corrects the mean error of rounded weights by the biases (Nagel et al. 2019, section 4.2).

The bias of a convolution loses what its rounded weights add to the mean of its output. Knows
nothing of the quantizer but how it rounds weights.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from training.graph.int8.activations import Activations
from training.graph.int8.quantizer import Recipe

LARGEST = {False: 64, True: 127}  # the largest weight, without and with the eighth bit


def correct_biases(
    body: onnx.ModelProto, activations: Mapping[str, Activations], recipe: Recipe
) -> onnx.ModelProto:
    """The body with corrected biases of the convolutions that will be in 8 bits."""
    corrected = onnx.ModelProto()
    corrected.CopyFrom(body)
    tensors = {tensor.name: tensor for tensor in corrected.graph.initializer}
    for node in corrected.graph.node:
        if node.op_type != "Conv" or node.name in recipe.kept or len(node.input) < 3:
            continue
        source, weight, bias = node.input
        if source not in activations or weight not in tensors or bias not in tensors:
            continue
        values = numpy_helper.to_array(tensors[weight])
        mean = activations[source].means.mean(0)  # (C,)
        shift = sum_rounding_errors(values, LARGEST[recipe.eighth_bit], mean)
        moved = numpy_helper.to_array(tensors[bias]) - shift
        tensors[bias].CopyFrom(numpy_helper.from_array(moved.astype(np.float32), bias))
    return corrected


def sum_rounding_errors(
    weight: NDArray[np.float32],  # (O, C / groups, h, w)
    largest: int,
    mean: NDArray[np.float32],  # (C,)
) -> NDArray[np.float32]:
    """What rounding the weights adds to each output channel, (O,), where the input is its mean."""
    size = np.abs(weight).max((1, 2, 3), keepdims=True)
    scale = np.maximum(size / largest, 1e-12)
    errors = (np.rint(weight / scale) * scale - weight).sum((2, 3))  # (O, C / groups)
    groups = len(mean) // weight.shape[1]
    means = mean.reshape(groups, 1, -1)  # (groups, 1, C / groups)
    return np.asarray((errors.reshape(groups, -1, weight.shape[1]) * means).sum(2).ravel())
