"""Makes inputs with Triton's client."""

from typing import Any

import numpy as np
import tritonclient.http as triton
from numpy.typing import NDArray

from tests.service.quadrants_model import encode, light

OUTPUTS = ("logits", "probabilities", "cam")


def make_pixels(*quarters: int) -> NDArray[np.uint8]:
    """Return images (N, H, W, C) of 32 x 32 with one bright quarter each."""
    return np.stack([np.asarray(light(quarter)) for quarter in quarters])


def make_input(
    name: str, values: NDArray[Any], datatype: str, binary: bool = True
) -> triton.InferInput:
    """Return one input."""
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def make_image(*quarters: int, binary: bool = True) -> triton.InferInput:
    """Return the input `image` as pixels."""
    return make_input("image", make_pixels(*quarters), "UINT8", binary)


def make_encoded(*quarters: int) -> triton.InferInput:
    """Return the input `image` as PNG files."""
    files = np.array([encode(light(quarter)) for quarter in quarters], dtype=np.object_)
    return make_input("image", files, "BYTES")


def make_target(targets: list[list[int]], binary: bool = True) -> triton.InferInput:
    """Return the input `target`."""
    return make_input("target", np.array(targets, np.int64), "INT64", binary)


def request_output(name: str, binary: bool = True, classes: int = 0) -> triton.InferRequestedOutput:
    """Return one requested output."""
    return triton.InferRequestedOutput(name, binary_data=binary, class_count=classes)
