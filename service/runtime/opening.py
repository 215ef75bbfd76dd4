"""Opens the session that suits a model and this machine: device, threads, replicas."""

from collections.abc import Callable
from functools import partial
from time import perf_counter

from service.artifact.card import Artifact, InvalidArtifact
from service.machine import count_cores, lacks_vnni
from service.runtime.cuda import CUDA, list_sizes, open_bound
from service.runtime.engine import ONNXRUNTIME, OPENVINO, Session
from service.runtime.openvino import OpenVinoSession, parse_graph
from service.runtime.session import (
    OnnxSession,
    ReplicatedSession,
    choose_providers,
    make_options,
)
from service.settings import AUTO, Settings

MIN_MULTITHREADED_SECONDS = 0.001  # a shorter run ends before other threads wake up
MAX_INLINE_SECONDS = 0.001  # for a full batch with maps; the event loop is blocked meanwhile
MEASURED_RUNS = 5
ROWS_COMPARED = 4  # in a batch, with as many single rows
ROW_OVERHEAD = 0.0003  # seconds of handing over and answering a run
MAX_REPLICATED_BYTES = 128 << 20  # of a file; a larger one would take too much memory twice

# Takes the threads of a run, and how many runs there may be at the same time.
OpenWith = Callable[[int, int], OnnxSession | OpenVinoSession]


def choose_batch_size(settings: Settings, provider: str) -> int:
    """Return the largest batch size."""
    if settings.max_batch_size != AUTO:
        return int(settings.max_batch_size)
    return 32 if provider == "cuda" else 8


def open_session(
    content: bytes, artifact: Artifact, settings: Settings, engine: str = ONNXRUNTIME
) -> Session:
    """Load a model on the GPU if there is one, else on the CPU with `engine`.

    Raises:
        InvalidArtifact, DeviceError: as `OnnxSession` and `OpenVinoSession` do.
    """
    # A model that segments has three inputs and large outputs, which are not bound to memory.
    if CUDA in choose_providers(settings.device) and not artifact.card.segments:
        bound = open_bound(content, artifact, choose_batch_size(settings, "cuda"), make_options(1))
        if bound.provider == "cuda":
            return bound
    open_with = make_opener(content, artifact, settings.device, engine)
    if settings.intra_op_threads != AUTO:
        return open_with(int(settings.intra_op_threads), 1)
    return _open_measured(open_with, len(content), artifact, settings)


def make_opener(content: bytes, artifact: Artifact, device: str, engine: str) -> OpenWith:
    """Return what opens a session of that engine with a number of threads and of runs at once.

    Raises:
        InvalidArtifact: the file must not run in that engine, or not on this processor.
    """
    check_demands(artifact, engine)
    if engine == OPENVINO:
        return partial(OpenVinoSession, parse_graph(content, artifact), artifact)
    # A session of onnxruntime takes any number of runs at once.
    return lambda threads, _: OnnxSession(content, artifact, device, threads)


def check_demands(artifact: Artifact, engine: str) -> None:
    """Check that the card allows this processor and this engine.

    Raises:
        InvalidArtifact: it does not.
    """
    path, card = artifact.path, artifact.card
    if "vnni" in card.requires and lacks_vnni():
        raise InvalidArtifact(
            f"{path} needs a processor with VNNI, which this one does not have: its 8-bit weights "
            "would give other answers here. Export it again on this machine."
        )
    if card.engines is not None and engine not in card.engines:
        raise InvalidArtifact(
            f"{path} must not run in {engine}: at the export its answers were within bounds only "
            f"in {', '.join(card.engines)}."
        )


def _open_measured(
    open_with: OpenWith, file_bytes: int, artifact: Artifact, settings: Settings
) -> Session:
    """Load a model with one thread; use all cores if a run takes long enough."""
    cores = count_cores()
    session = open_with(1, cores)
    if session.provider != "cpu":
        session.sizes = list_sizes(choose_batch_size(settings, session.provider))
        return session
    seconds = measure_run(session, artifact)
    if cores > 1 and seconds >= MIN_MULTITHREADED_SECONDS:
        if file_bytes <= MAX_REPLICATED_BYTES:
            shared = open_with(cores, 1)
            batched = measure_run(session, artifact, ROWS_COMPARED) / ROWS_COMPARED
            return ReplicatedSession(shared, session, cores, batched - seconds > ROW_OVERHEAD)
        del session  # frees its memory first
        return open_with(cores, 1)
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
