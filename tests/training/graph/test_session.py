"""A graph that does not run is reported in one sentence."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from training.errors import CheckError
from training.graph.session import open_session


def test_a_size_that_is_fixed_in_a_graph_is_one_sentence() -> None:
    """The trace of some networks fixes the number of pictures in a reshape."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [5, 4])
    node = helper.make_node("Reshape", ["image", "shape"], ["logits"])
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])
        for name in ("image", "logits")
    ]
    graph = helper.make_graph([node], "fixed", values[:1], values[1:], [shape])
    run = open_session(
        helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 18)])
    )
    target = np.zeros((5, 2), np.int64)
    assert run(np.zeros((5, 4), np.float32), target)[0].shape == (5, 4)
    with pytest.raises(CheckError, match="does not run on 3 pictures with 2 targets each"):
        run(np.zeros((3, 4), np.float32), target[:3])
