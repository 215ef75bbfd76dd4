"""One model in onnxruntime: arrays in, arrays out. Knows nothing of pictures, threads or HTTP."""

from functools import cache
from time import perf_counter

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.artifact.card import Artifact, InvalidArtifact
from service.machine import count_cores, has_driver
from service.runtime.batcher import Outputs
from service.runtime.cuda import CPU, CUDA, BoundSession, open_bound
from service.settings import AUTO, DeviceError, Settings

PROVIDER_NAMES = {CUDA: "cuda", CPU: "cpu"}
MIN_MULTITHREADED_SECONDS = 0.001  # a shorter run is over before other threads have woken
MAX_INLINE_SECONDS = 0.001  # of a full batch with maps: so long the event loop may stand still
MEASURED_RUNS = 5
MAX_REPLICATED_BYTES = 128 << 20  # of a file: a larger one takes too much memory to be held twice


class Session:
    """A loaded graph on the device that was chosen for it."""

    sizes: tuple[int, ...] = ()  # any batch is as good as another
    run_inline = False  # whether a run is over before handing it to a thread would be
    replicas = 1  # runs at the same time

    def __init__(self, content: bytes, artifact: Artifact, device: str, threads: int) -> None:
        """Load `content`, the bytes that were judged, to run with so many threads on a CPU.

        Raises:
            BadArtefact: onnxruntime refuses the graph.
            DeviceFault: `DEVICE=cuda`, and the model did not come to lie there.
        """
        providers = choose_providers(device)
        options = _make_options(threads)
        if providers == [CPU]:
            _share_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
        try:
            self._session = ort.InferenceSession(content, options, providers=providers)
        except Exception as fault:  # onnxruntime's exceptions share no base of their own
            raise InvalidArtifact(f"{artifact.path} is refused by onnxruntime: {fault}") from None
        self._session._model_bytes = None  # else onnxruntime keeps the whole file for good
        self.provider = PROVIDER_NAMES[self._session.get_providers()[0]]
        if device == "cuda" and self.provider != "cuda":
            raise DeviceError(describe_missing_cuda())

    def run(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        """Run one batch: `image` [N, H, W, C], `target` [N, T] with -1 for a row's own top-1."""
        return Outputs(*self._session.run(Outputs._fields, {"image": image, "target": target}))

    run_replica = run


class ReplicatedSession:
    """A large model on several cores: a batch on all of them, or in a crowd a part of it on each.

    Threads that share a run wait for each other in every layer; few pictures are done sooner so,
    of many fewer a second.
    """

    sizes: tuple[int, ...] = ()
    run_inline = False

    def __init__(self, wide: Session, narrow: Session, replicas: int) -> None:
        self.provider = wide.provider
        self.run, self.run_replica = wide.run, narrow.run
        self.replicas = replicas


AnySession = Session | ReplicatedSession | BoundSession


def choose_providers(device: str) -> list[str]:
    """The providers to try, best first.

    Raises:
        DeviceFault: `device` is cuda and this onnxruntime has no CUDA provider.
    """
    if device == "cpu" or (device == AUTO and not has_cuda()):
        return [CPU]
    if not has_cuda():
        raise DeviceError(describe_missing_cuda())
    ort.preload_dlls()  # the CUDA libraries that came as Python packages, if any
    return [CUDA, CPU]


def has_cuda() -> bool:
    """Whether there is a CUDA provider and a driver for it; it may still fail to load a model."""
    return CUDA in ort.get_available_providers() and has_driver()


def describe_missing_cuda() -> str:
    """What `DEVICE=cuda` lacks here."""
    if CUDA not in ort.get_available_providers():
        lacking = f"onnxruntime {ort.__version__} as installed here has no CUDA provider"
    elif not has_cuda():
        lacking = "there is no NVIDIA driver here"
    else:
        lacking = "the libraries of onnxruntime-gpu[cuda,cudnn], or a GPU, are missing"
    return f"SIGHTGLASS_DEVICE=cuda can't be: {lacking}; auto would use the CPU."


def choose_batch_size(settings: Settings, provider: str) -> int:
    """Rows in one pass at most."""
    if settings.max_batch_size != AUTO:
        return int(settings.max_batch_size)
    return 32 if provider == "cuda" else 8


def open_session(content: bytes, artifact: Artifact, settings: Settings) -> AnySession:
    """On a GPU if there is one; else with as many threads as pay: one for a small model, or all.

    Raises:
        BadArtefact, DeviceFault: as `Session` does.
    """
    if CUDA in choose_providers(settings.device):
        bound = open_bound(content, artifact, choose_batch_size(settings, "cuda"), _make_options(1))
        if bound.provider == "cuda":
            return bound
    if settings.intra_op_threads != AUTO:
        return Session(content, artifact, settings.device, int(settings.intra_op_threads))
    session = Session(content, artifact, settings.device, 1)
    if session.provider != "cpu":
        return session
    cores = count_cores()
    if cores > 1 and measure_run(session, artifact) >= MIN_MULTITHREADED_SECONDS:
        if len(content) <= MAX_REPLICATED_BYTES:
            return ReplicatedSession(
                Session(content, artifact, settings.device, cores), session, cores
            )
        del session
        return Session(content, artifact, settings.device, cores)
    full = choose_batch_size(settings, session.provider)
    session.run_inline = measure_run(session, artifact, full, 1) < MAX_INLINE_SECONDS
    return session


def measure_run(session: AnySession, artifact: Artifact, size: int = 1, targets: int = 0) -> float:
    """Seconds of one run, the best of a few."""
    image, target = artifact.make_batch(size, targets)
    seconds = []
    for _ in range(MEASURED_RUNS):
        started = perf_counter()
        session.run(image, target)
        seconds.append(perf_counter() - started)
    return min(seconds)


@cache
def _share_memory() -> None:
    """What runs take, a model's two sessions or several models take in turn from one arena."""
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    exactly = ort.OrtArenaCfg({"arena_extend_strategy": 1})  # not the next power of two
    ort.create_and_register_allocator(memory, exactly)


def _make_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads of an idle session would otherwise spin on the cores that decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options
