"""A file holds a matrix once, although a prediction and its explanation both read it."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from training.gradcam.reference import compute_gradcam
from training.graph.compilation import GraphOptions, compile_graph
from training.graph.session import open_session
from training.graph.stored_weights import share_transposed_weights
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier

CLASSES = 50


@pytest.fixture
def pooled(small: Callable[[nn.Module], Classifier]) -> Classifier:
    """A network whose head is an average and a linear layer with 6 x 50 weights."""
    return small(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES)))


def sizes(proto: onnx.ModelProto) -> list[tuple[int, ...]]:
    return [tuple(weight.dims) for weight in proto.graph.initializer]


@pytest.mark.parametrize("precision", ["fp32", "w16"])
def test_the_heads_weights_are_stored_once(
    pooled: Classifier, colors: Pixels, precision: str
) -> None:
    """The logits and alpha both come from the one matrix, and are torch's."""
    options = GraphOptions(precision=precision)
    proto = compile_graph(pooled, pooled.network, "features", colors, options).proto
    assert sorted(sizes(proto)).count((CLASSES, 6)) == 1
    assert (6, CLASSES) not in sizes(proto)
    logits, _, cam = open_session(proto)(colors, np.full((len(colors), 1), 3))
    assert np.allclose(logits, pooled.predict(colors), atol=1e-5)
    layer = pooled.network.get_submodule("features")
    reference = compute_gradcam(
        pooled, torch.tensor(colors), torch.full((len(colors), 1), 3), layer, "gradcam"
    )
    assert np.allclose(cam, reference.cam.numpy(), atol=1e-5)


def test_another_matrix_of_that_size_is_not_taken_for_the_transpose() -> None:
    """Only equal numbers are shared."""
    own, other = np.ones((2, 3), "f4"), np.zeros((3, 2), "f4")
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [
                onnx.helper.make_node("Gemm", ["x", "own"], ["y"]),
                onnx.helper.make_node("Gather", ["other", "rows"], ["z"]),
            ],
            "two",
            [
                onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 2]),
                onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.INT64, [1]),
            ],
            [
                onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 3]),
                onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, [1, 2]),
            ],
            [numpy_helper.from_array(own, "own"), numpy_helper.from_array(other, "other")],
        )
    )
    before = proto.SerializeToString()
    share_transposed_weights(proto)
    assert proto.SerializeToString() == before
