"""Runs a model in onnxruntime: arrays in, arrays out. Knows no images, queues or HTTP."""

from functools import cache
from time import perf_counter

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.graph import OPSET
from service.machine import count_cores, has_driver
from service.runtime.cuda import CPU, CUDA, list_sizes, open_bound
from service.runtime.engine import AnyOutputs, MaskOutputs, Outputs, Session
from service.settings import AUTO, DeviceError, Settings

PROVIDER_NAMES = {CUDA: "cuda", CPU: "cpu"}
MIN_MULTITHREADED_SECONDS = 0.001  # a shorter run ends before other threads wake up
MAX_INLINE_SECONDS = 0.001  # for a full batch with maps; the event loop is blocked meanwhile
MEASURED_RUNS = 5
ROWS_COMPARED = 4  # in a batch, with as many single rows
ROW_OVERHEAD = 0.0003  # seconds of handing over and answering a run
REGION_RANK = 3  # of an array of targets that have regions
MAX_REPLICATED_BYTES = 128 << 20  # of a file; a larger one would take too much memory twice


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
        options = _make_options(threads)
        if providers == [CPU]:
            _share_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            self._session = ort.InferenceSession(content, options, providers=providers)
        except Exception as exc:  # onnxruntime's exceptions have no common base class
            raise InvalidArtifact(f"{artifact.path} is rejected by onnxruntime: {exc}") from None
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
        self.provider = shared.provider
        self.run, self.run_replica = shared.run, single.run
        self.replicas = replicas


def choose_providers(device: str) -> list[str]:
    """Return the providers to try, best first.

    Raises:
        DeviceError: `device` is cuda, but onnxruntime has no CUDA provider or there is no driver.
    """
    if device == "cpu" or (device == AUTO and not has_cuda()):
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


def choose_batch_size(settings: Settings, provider: str) -> int:
    """Return the largest batch size."""
    if settings.max_batch_size != AUTO:
        return int(settings.max_batch_size)
    return 32 if provider == "cuda" else 8


def open_session(content: bytes, artifact: Artifact, settings: Settings) -> Session:
    """Load a model on the GPU if there is one, else on the CPU.

    Raises:
        InvalidArtifact, DeviceError: as `OnnxSession` does.
    """
    # A model that segments has three inputs and large outputs, which are not bound to memory.
    if CUDA in choose_providers(settings.device) and not artifact.card.segments:
        bound = open_bound(content, artifact, choose_batch_size(settings, "cuda"), _make_options(1))
        if bound.provider == "cuda":
            return bound
    if settings.intra_op_threads != AUTO:
        return OnnxSession(content, artifact, settings.device, int(settings.intra_op_threads))
    return _open_measured(content, artifact, settings)


def _open_measured(content: bytes, artifact: Artifact, settings: Settings) -> Session:
    """Load a model with one thread; use all cores if a run takes long enough."""
    session = OnnxSession(content, artifact, settings.device, 1)
    if session.provider != "cpu":
        session.sizes = list_sizes(choose_batch_size(settings, session.provider))
        return session
    cores = count_cores()
    seconds = measure_run(session, artifact)
    if cores > 1 and seconds >= MIN_MULTITHREADED_SECONDS:
        if len(content) <= MAX_REPLICATED_BYTES:
            shared = OnnxSession(content, artifact, settings.device, cores)
            batched = measure_run(session, artifact, ROWS_COMPARED) / ROWS_COMPARED
            return ReplicatedSession(shared, session, cores, batched - seconds > ROW_OVERHEAD)
        del session  # frees its memory first
        return OnnxSession(content, artifact, settings.device, cores)
    full = choose_batch_size(settings, session.provider)
    if artifact.is_steady:
        session.run_inline = measure_run(session, artifact, full, 1) < MAX_INLINE_SECONDS
    return session


def measure_run(session: Session, artifact: Artifact, size: int = 1, targets: int = 0) -> float:
    """Return the seconds of the fastest of a few runs."""
    image, target = artifact.make_batch(size, targets)
    seconds = []
    for _ in range(MEASURED_RUNS):
        started = perf_counter()
        session.run(image, target)
        seconds.append(perf_counter() - started)
    return min(seconds)


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
    options = _make_options(1)
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


def _make_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Otherwise the threads of an idle session spin on the cores that decode the next images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
