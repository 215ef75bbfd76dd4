"""Runs a model in onnxruntime: arrays in, arrays out. Knows no images, queues or HTTP."""

from functools import cache

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.graph import OPSET
from service.machine import has_driver
from service.runtime.cuda import CPU, CUDA
from service.runtime.engine import (
    OPENVINO,
    REGION_RANK,
    AnyOutputs,
    MaskOutputs,
    Outputs,
    Session,
    describe_onnxruntime,
)
from service.settings import AUTO, DeviceError

PROVIDER_NAMES = {CUDA: "cuda", CPU: "cpu"}


class OnnxSession:
    """A loaded graph on the device that was chosen for it."""

    sizes: tuple[int, ...] = ()  # every batch size is as fast to start
    run_inline = False
    replicas = 1
    rows_alone = False

    def __init__(self, content: bytes, artifact: Artifact, device: str, threads: int) -> None:
        """Load `content`, the bytes that were validated; `threads` is for runs on a CPU.

        Raises:
            InvalidArtifact: onnxruntime rejects the graph.
            DeviceError: `DEVICE=cuda`, but the model was not loaded on the GPU.
        """
        providers = choose_providers(device)
        options = make_options(threads)
        if providers == [CPU]:
            _share_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            self._session = ort.InferenceSession(content, options, providers=providers)
        except Exception as exc:  # onnxruntime's exceptions have no common base class
            raise InvalidArtifact(f"{artifact.path} is rejected by onnxruntime: {exc}") from None
        self.engine = describe_onnxruntime(artifact)
        self._outputs = artifact.card.outputs
        self._session._model_bytes = None  # private: otherwise onnxruntime keeps the whole file
        self.provider = PROVIDER_NAMES[self._session.get_providers()[0]]
        if device == "cuda" and self.provider != "cuda":
            raise DeviceError(describe_missing_cuda())

    def run(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> AnyOutputs:
        """Run one batch, as described in `Session`."""
        if target.ndim == REGION_RANK:
            feed = {"image": image, "target": target[..., 0], "region": target[..., 1:]}
            return MaskOutputs(*self._session.run(self._outputs, feed))
        return Outputs(*self._session.run(self._outputs, {"image": image, "target": target}))

    run_replica = run

    def release_memory(self) -> None:
        """Do nothing: the arena of memory belongs to all sessions, and others may be running."""


class ReplicatedSession:
    """A large model on several cores: one batch on all cores, or a part of it on each core.

    Threads that share a run wait for each other in every layer. Sharing answers few images sooner,
    but processes fewer images per second when there are many.
    """

    sizes: tuple[int, ...] = ()
    run_inline = False

    def __init__(self, shared: Session, single: Session, replicas: int, rows_alone: bool) -> None:
        """`shared` runs on all cores, `single` on one."""
        self.rows_alone = rows_alone
        self.provider, self.engine = shared.provider, shared.engine
        self.run, self.run_replica = shared.run, single.run
        self.replicas = replicas
        self._sessions = (shared, single)

    def release_memory(self) -> None:
        """Return the memory that the runs of both took."""
        for session in self._sessions:
            session.release_memory()


def choose_providers(device: str) -> list[str]:
    """Return the providers to try, best first.

    Raises:
        DeviceError: `device` is cuda, but onnxruntime has no CUDA provider or there is no driver.
    """
    if device in ("cpu", OPENVINO) or (device == AUTO and not has_cuda()):
        return [CPU]
    if not has_cuda():
        raise DeviceError(describe_missing_cuda())
    ort.preload_dlls()  # the CUDA libraries from Python packages, if installed
    return [CUDA, CPU]


def has_cuda() -> bool:
    """Return whether there is a CUDA provider and a driver; loading a model may still fail."""
    return CUDA in ort.get_available_providers() and has_driver()


def describe_missing_cuda() -> str:
    """Say why `DEVICE=cuda` does not work here."""
    if CUDA not in ort.get_available_providers():
        reason = f"the installed onnxruntime {ort.__version__} has no CUDA provider"
    elif not has_cuda():
        reason = "no NVIDIA driver is installed"
    else:
        reason = "a GPU or the libraries of onnxruntime-gpu[cuda,cudnn] are missing"
    return describe_cuda_failure(reason)


def describe_cuda_failure(reason: str) -> str:
    """Say why `DEVICE=cuda` does not work, and what to do."""
    return f"SIGHTGLASS_DEVICE=cuda does not work: {reason}. Set it to auto to use the CPU."


@cache
def _share_memory() -> None:
    """Let all sessions share one memory arena, since they seldom run at the same time."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    arena = ort.OrtArenaCfg({"arena_extend_strategy": 1})  # as requested, not a power of two
    ort.create_and_register_allocator(memory, arena)


def shrink_arena() -> None:
    """Give back the free memory of the arena that all sessions on the CPU share.

    onnxruntime does that at the end of a run that asks for it, so this runs a graph of one node.
    """
    tiny, options = _open_tiny_session(), ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    tiny.run(None, {"x": np.ones(1, np.float32)}, options)


@cache
def _open_tiny_session() -> ort.InferenceSession:
    _share_memory()
    options = make_options(1)
    options.add_session_config_entry("session.use_env_allocators", "1")
    return ort.InferenceSession(make_tiny_graph(), options, providers=[CPU])


def make_tiny_graph() -> bytes:
    """Return a model of one node, `x` (1,) to `y` (1,)."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "tiny", [value], [result])
    opset = helper.make_opsetid("", OPSET)
    content: bytes = helper.make_model(
        graph, opset_imports=[opset], ir_version=10
    ).SerializeToString()
    return content


def make_options(threads: int) -> ort.SessionOptions:
    """Return the options of a session that runs with that many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Otherwise the threads of an idle session spin on the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
