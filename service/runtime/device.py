"""Tells a device failure from a bad row, and says what a GPU is missing.

A row that the graph cannot process fails alone. After a CUDA error, or if memory does not even
suffice for one row, the session cannot be used any more. Knows the messages of onnxruntime, but no
queues or HTTP.
"""

import ctypes
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.runtime.batcher import DeviceLost
from service.runtime.engine import AnyOutputs, Run
from service.runtime.session import choose_providers, describe_cuda_failure, make_tiny_graph
from service.settings import DeviceError

TEST_SECONDS = 120
DEVICE_ERROR = re.compile(
    r"CUDA (failure|error)|CUDNN|CUBLAS|CUFFT|cuda\w*Error|device lost", re.IGNORECASE
)
OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate|bad_alloc|ALLOC_FAILED|cudaErrorMemoryAllocation",
    re.IGNORECASE,
)
LIBRARIES = ("libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so")


def detect_device_loss(run: Run) -> Run:
    """Return the same run, except that it raises `DeviceLost` if the device fails.

    If memory does not suffice for a batch, that is no device failure: half the batch may fit.
    """

    def run_guarded(image: NDArray[np.uint8], target: NDArray[np.int64]) -> AnyOutputs:
        try:
            return run(image, target)
        except Exception as exc:
            if is_device_loss(exc, len(image)):
                raise DeviceLost(f"The device failed: {exc}") from None
            raise

    return run_guarded


def is_device_loss(exc: Exception, rows: int) -> bool:
    """Return whether a batch of `rows` rows failed because the device did."""
    message = str(exc)
    if OUT_OF_MEMORY.search(message) or isinstance(exc, MemoryError):
        return rows == 1
    return bool(DEVICE_ERROR.search(message))


def find_missing_library() -> str | None:
    """Return what the dynamic linker cannot find for onnxruntime's CUDA provider, or None."""
    folder = Path(ort.__file__).parent / "capi"
    try:
        for name in LIBRARIES:
            if (folder / name).exists():
                ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
    except OSError as exc:
        return str(exc)
    return None


def try_cuda() -> None:
    """Run a tiny graph on the GPU.

    Raises:
        DeviceError: it did not run there; the message says what is missing.
    """
    providers = choose_providers("cuda")
    try:
        session = ort.InferenceSession(make_tiny_graph(), providers=providers)
        session.run(None, {"x": np.ones(1, np.float32)})
        if session.get_providers() == providers:
            return
        reason = find_missing_library()
    except Exception as exc:  # onnxruntime's exceptions have no common base class
        reason = str(exc)
    reason = reason or "onnxruntime could not set up the GPU, see its own messages"
    raise DeviceError(describe_cuda_failure(reason))


def require_cuda() -> None:
    """Test the GPU in a process of its own, so that its memory is free again afterwards.

    Raises:
        DeviceError: as `try_cuda` does.
    """
    choose_providers("cuda")
    try:
        completed = subprocess.run(  # noqa: S603
            [sys.executable, "-m", __name__],
            stdout=subprocess.PIPE,
            text=True,
            timeout=TEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        reason = f"the GPU did not answer within {TEST_SECONDS} s"
        raise DeviceError(describe_cuda_failure(reason)) from None
    if completed.returncode:
        reason = f"the test of the GPU ended with exit code {completed.returncode}"
        raise DeviceError(completed.stdout.strip() or describe_cuda_failure(reason))


if __name__ == "__main__":
    try:
        try_cuda()
    except DeviceError as exc:
        print(exc)  # noqa: T201
        sys.exit(1)
