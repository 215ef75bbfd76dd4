"""An ONNX graph on OpenVINO, which a server may take instead of onnxruntime. It is optional.

Knows nothing of how the graph was made.
"""

import importlib.util
import sys

import numpy as np
import onnx
from numpy.typing import NDArray

from training.errors import CheckError
from training.imaging.preprocessing import GraphOutputs, GraphRunner, Pixels

OUTPUTS = ("logits", "probabilities", "cam")


def has_openvino() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("openvino") is not None


def open_in_openvino(proto: onnx.ModelProto) -> GraphRunner:
    """The graph as a server runs it in OpenVINO: what has no 8 bits in bfloat16, if there is any.

    Raises:
        CheckError: OpenVINO rejects the graph.
    """
    # The converter imports telemetry, which starts a thread. It is not needed.
    sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    import openvino

    core = openvino.Core()
    narrow = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    try:
        model = core.read_model(proto.SerializeToString())
        hint = {"INFERENCE_PRECISION_HINT": "bf16" if narrow else "f32"}
        compiled = core.compile_model(model, "CPU", hint)
    except Exception as error:  # OpenVINO's exceptions have no common base class
        raise CheckError(f"OpenVINO rejects the graph: {error}") from error

    def run(image: Pixels, target: NDArray[np.int64]) -> GraphOutputs:
        found = compiled({"image": image, "target": target})
        return [found[name] for name in OUTPUTS]

    return run
