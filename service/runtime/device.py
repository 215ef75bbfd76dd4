"""When the device fails, not the picture: told apart by what onnxruntime says, and what is missing.

A row that a graph can't take fails alone; a CUDA error or memory that is short even for one row
means that this session is done for. Knows onnxruntime's words; nothing of queues or HTTP.
"""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.artifact.validation import OPSET
from service.runtime.batcher import DeviceLost, Outputs, Run
from service.runtime.session import choose_providers
from service.settings import DeviceError

PROBE_SECONDS = 120
DEVICE_ERROR = re.compile(
    r"CUDA (failure|error)|CUDNN|CUBLAS|CUFFT|cuda\w*Error|device lost", re.IGNORECASE
)
OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate|bad_alloc|ALLOC_FAILED|cudaErrorMemoryAllocation",
    re.IGNORECASE,
)
LIBRARIES = ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so")


def detect_device_loss(run: Run) -> Run:
    """The same run, but a failing device is `DeviceLost`.

    Memory that is short for a batch is an error like any other: half the batch may do.
    """

    def run_guarded(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        try:
            return run(image, target)
        except Exception as fault:
            if is_device_loss(fault, len(image)):
                raise DeviceLost(f"The device failed: {fault}") from None
            raise

    return run_guarded


def is_device_loss(fault: Exception, rows: int) -> bool:
    """Whether a batch of so many rows failed for the device's sake."""
    told = str(fault)
    if OUT_OF_MEMORY.search(told) or isinstance(fault, MemoryError):
        return rows == 1
    return bool(DEVICE_ERROR.search(told))


def find_missing_library() -> str | None:
    """What the dynamic linker says is missing for onnxruntime's CUDA provider; None if nothing."""
    folder = Path(ort.__file__).parent / "capi"
    try:
        for name in LIBRARIES:
            if (folder / name).exists():
                ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    except OSError as fault:
        return str(fault)
    return None


def try_cuda() -> None:
    """Run the smallest of graphs on the GPU.

    Raises:
        DeviceFault: it does not come to run there; the sentence names what is missing.
    """
    providers = choose_providers("cuda")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "least", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    try:
        session = ort.InferenceSession(model.SerializeToString(), providers=providers)
        session.run(None, {"x": np.ones(1, np.float32)})
        lacking = "" if session.get_providers() == providers else find_missing_library()
    except Exception as fault:  # onnxruntime's exceptions share no base of their own
        lacking = str(fault)
    if lacking != "":
        told = lacking or "onnxruntime could not set the GPU up, its own lines say why"
        raise DeviceError(f"SIGHTGLASS_DEVICE=cuda can't be: {told}; auto would use the CPU.")


def require_cuda() -> None:
    """Try the GPU in a process of its own, which takes its memory along when it ends.

    Raises:
        DeviceFault: as `try_cuda` does.
    """
    choose_providers("cuda")
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "service.runtime.device"],
            stdout=subprocess.PIPE,
            text=True,
            timeout=PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise DeviceError(
            f"SIGHTGLASS_DEVICE=cuda can't be: the GPU did not answer within {PROBE_SECONDS} s."
        ) from None
    if ran.returncode:
        raise DeviceError(
            ran.stdout.strip() or f"The GPU's trial ended with {ran.returncode} and no word."
        )


if __name__ == "__main__":
    try:
        try_cuda()
    except DeviceError as fault:
        print(fault)  # noqa: T201
        sys.exit(1)
