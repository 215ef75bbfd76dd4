"""Runs a model in OpenVINO on a CPU: arrays in, arrays out. Knows no images, queues or HTTP.

OpenVINO is optional, so it is imported only when a model is to run in it. It computes in bfloat16
if the processor does, else in 32 bits.
"""

import os
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import Artifact, InvalidArtifact
from service.runtime.engine import (
    OPENVINO,
    REGION_RANK,
    AnyOutputs,
    Engine,
    MaskOutputs,
    Outputs,
)
from service.settings import DeviceError

if TYPE_CHECKING:
    import openvino

CONVERTER = "openvino.tools.ovc"  # OpenVINO does without it if it cannot be imported
QUANTIZED = ("int8", "mixed")  # precisions of files whose 8-bit parts stay as they are


class OpenVinoSession:
    """A graph that is compiled for a number of streams, each with its own threads."""

    provider = "cpu"
    sizes: tuple[int, ...] = ()  # every batch size is as fast to start
    run_inline = False
    replicas = 1
    rows_alone = False

    def __init__(
        self, model: "openvino.Model", artifact: Artifact, threads: int, streams: int = 1
    ) -> None:
        """Compile for `streams` runs at the same time, each with `threads` threads.

        Raises:
            InvalidArtifact: OpenVINO rejects the graph.
        """
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16() else "f32",
            "INFERENCE_NUM_THREADS": threads * streams,
            "NUM_STREAMS": streams,
            "ENABLE_HYPER_THREADING": True,  # else there may be fewer threads than that
            "ENABLE_CPU_PINNING": False,  # other processes use the cores as well
        }
        core = load_core()
        try:
            self._compiled = core.compile_model(model, "CPU", settings)
        except Exception as exc:
            raise InvalidArtifact(f"{artifact.path} is rejected by OpenVINO: {exc}") from None
        precision = artifact.card.precision
        computed = "bf16" if has_bf16() else "fp32"
        self.engine = Engine(OPENVINO, precision if precision in QUANTIZED else computed)
        self._outputs = artifact.card.outputs
        self._idle: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(streams):
            self._idle.put(self._compiled.create_infer_request())

    def run(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> AnyOutputs:
        """Run one batch, as described in `Session`."""
        feed: dict[str, Any] = {"image": image, "target": target}
        if target.ndim == REGION_RANK:
            feed["target"] = np.ascontiguousarray(target[..., 0])  # (N, T)
            feed["region"] = np.ascontiguousarray(target[..., 1:])  # (N, T, 5)
        request = self._idle.get()
        try:
            found = request.infer(feed, share_inputs=True)
            outputs = [found[name] for name in self._outputs]
        finally:
            self._idle.put(request)
        return MaskOutputs(*outputs) if "region" in feed else Outputs(*outputs)

    run_replica = run

    def release_memory(self) -> None:
        """Return the memory between the layers; the next run takes it again."""
        self._compiled.release_memory()


def find_version() -> str | None:
    """Return the version of the package, or None if it is not installed."""
    try:
        return version(OPENVINO)
    except PackageNotFoundError:
        return None


def is_installed() -> bool:
    """Return whether the package is there."""
    return find_version() is not None


def require_openvino() -> None:
    """Check that OpenVINO can be used.

    Raises:
        DeviceError: it cannot.
    """
    if not is_installed():
        raise DeviceError(
            "SIGHTGLASS_DEVICE=openvino does not work: the package openvino is not installed. "
            "Install sightglass[openvino], or set it to auto."
        )


def load_core() -> "openvino.Core":
    """Import OpenVINO and return what compiles models.

    Raises:
        RuntimeError: another process loaded it and then forked this one, in which it would hang.
    """
    core, pid = _load_core()
    if pid != os.getpid():
        raise RuntimeError("OpenVINO was loaded before this process was forked")
    return core


@cache
def _load_core() -> tuple["openvino.Core", int]:
    # The converter imports telemetry, which starts a thread, and it takes half of the time.
    sys.modules.setdefault(CONVERTER, None)  # type: ignore[arg-type]
    import openvino

    return openvino.Core(), os.getpid()


@cache
def has_bf16() -> bool:
    """Return whether the processor computes in bfloat16."""
    return "BF16" in load_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def parse_graph(content: bytes, artifact: Artifact) -> "openvino.Model":
    """Return the graph in OpenVINO's form, which can be compiled more than once.

    Raises:
        InvalidArtifact: OpenVINO rejects the graph.
    """
    core = load_core()
    try:
        model = core.read_model(content)
        widen_weights(model)
    except Exception as exc:
        raise InvalidArtifact(f"{artifact.path} is rejected by OpenVINO: {exc}") from None
    return model


def widen_weights(model: "openvino.Model") -> None:
    """Convert weights that are stored in 16 bits, once for all that is compiled from the graph.

    Each compilation would otherwise make and keep its own.
    """
    from openvino import Type, opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Convert" or node.get_element_type() != Type.f32:
            continue
        stored = node.input_value(0).get_node()
        if stored.get_type_name() == "Constant" and stored.get_element_type() == Type.f16:
            widened = opset13.constant(stored.data.astype(np.float32))
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(widened.output(0))
