"""From a file to a session that can answer: judged, tried, loaded, probed, warmed, in turn."""

import ctypes
import sys
from pathlib import Path

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.validation import read_artifact
from service.repository.golden import check_outputs, run_golden_tests
from service.repository.sandbox import Sandbox
from service.runtime.session import AnySession, Session, choose_batch_size, open_session
from service.settings import DeviceError, Settings

TRIED_ROWS = 2


def load_model_file(
    path: Path, settings: Settings, sandbox: Sandbox
) -> tuple[Artifact, AnySession]:
    """Make a session of one file.

    Raises:
        BadArtefact: unfit to serve, for the reason in its message.
        DeviceFault: the device that was insisted on does not work.
    """
    artifact, content = read_artifact(path)
    sandbox.validate(path, artifact.sha256)
    session = open_session(content, artifact, settings)
    del content
    return_memory()
    warm_up(session, artifact, choose_batch_size(settings, session.provider))
    return artifact, session


def try_model_file(path: Path, sha256: str) -> None:
    """The same on a CPU with small batches, in a process that may die of it.

    Raises:
        BadArtefact: unfit to serve, for the reason in its message.
    """
    artifact, content = read_artifact(path)
    if artifact.sha256 != sha256:
        raise InvalidArtifact(f"{path} changed while it was being judged.")
    warm_up(Session(content, artifact, "cpu", 1), artifact, TRIED_ROWS)


def return_memory() -> None:
    """Give the system back what parsing took, twice a model's size: glibc would keep it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim:
            trim(0)


def warm_up(session: AnySession, artifact: Artifact, max_batch_size: int) -> None:
    """Probe it, and run each kind of batch once, so that no client pays for the first time.

    Raises:
        BadArtefact: it fails, or answers something else than it should.
        DeviceFault: the device fails.
    """
    try:
        run_golden_tests(artifact, session.run)
        for rows in sorted({1, *session.sizes, max_batch_size}):
            for targets in (0, 1):
                outputs = session.run(*artifact.make_batch(rows, targets))
                check_outputs(outputs, artifact, rows, targets)
        if session.replicas > 1:
            run_golden_tests(artifact, session.run_replica)
    except (InvalidArtifact, DeviceError):
        raise
    except Exception as fault:  # onnxruntime's exceptions share no base of their own
        raise InvalidArtifact(f"{artifact.path} can't be run: {fault}") from None
