"""Quantizes a body, the part of a graph up to the map, to 8 bits with onnxruntime's quantizer.

The weights have a scale for each channel, the tensors between the products have one each. Knows
nothing of pictures or of what is lost.
"""

import logging
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
from onnxruntime.quantization import QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

from training.graph.body import find_product_range
from training.graph.int8.activations import Range

# The operators that are computed in 8 bits: products, and the operators between them.
INT8_OPERATORS = ("Conv", "Add", "Relu", "Clip", "Concat", "MaxPool", "AveragePool")


@dataclass(frozen=True)
class Recipe:
    """How a body is quantized, its ranges apart.

    Processors without an 8-bit dot product (VNNI) add pairs of products in 16 bits. A weight's
    eighth bit would overflow there, and the file would give other answers.
    """

    eighth_bit: bool = False  # of the weights
    kept: Set[str] = frozenset()  # names of the nodes that stay in 32 bits


def quantize_to_int8(
    body: onnx.ModelProto, ranges: Mapping[str, Range], recipe: Recipe
) -> onnx.ModelProto:
    """The body in 8 bits. Preprocessing, and what follows the last product, stay in 32 bits."""
    first, last = find_product_range(body)
    names = [node.name for node in body.graph.node]
    copied = onnx.ModelProto()
    copied.CopyFrom(body)
    limits = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    with silence_logging():
        quantizer = QDQQuantizer(
            copied,
            True,  # a scale for each channel of the weights
            not recipe.eighth_bit,  # reduce_range
            QuantType.QInt8,
            QuantType.QUInt8,
            TensorsData(CalibrationMethod.MinMax, limits),
            [],
            [*names[:first], *names[last + 1 :], *recipe.kept],
            list(INT8_OPERATORS),
            {},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    found: onnx.ModelProto = quantizer.model.model
    return found


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
