"""Loads a model file: validate, try in the sandbox, open a session, run golden tests, warm up."""

import ctypes
import sys
from pathlib import Path

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.validation import read_artifact
from service.repository.golden import check_outputs, run_golden_tests
from service.repository.sandbox import Sandbox
from service.runtime.engine import Session
from service.runtime.session import OnnxSession, choose_batch_size, open_session
from service.settings import DeviceError, Settings

SANDBOX_ROWS = 2


def load_model_file(path: Path, settings: Settings, sandbox: Sandbox) -> tuple[Artifact, Session]:
    """Load one file into a session that is ready to answer.

    Raises:
        InvalidArtifact: the file cannot be served; the message says why.
        DeviceError: the device that the settings require does not work.
    """
    artifact, content = read_artifact(path)
    sandbox.validate(path, artifact.sha256)
    session = open_session(content, artifact, settings)
    del content
    return_memory()
    warm_up(session, artifact, choose_batch_size(settings, session.provider))
    return artifact, session


def try_model_file(path: Path, sha256: str) -> None:
    """Load and run the file on the CPU with small batches; called in the sandbox.

    Raises:
        InvalidArtifact: the file cannot be served; the message says why.
    """
    artifact, content = read_artifact(path)
    if artifact.sha256 != sha256:
        raise InvalidArtifact(f"{path} changed while it was being validated.")
    warm_up(OnnxSession(content, artifact, "cpu", 1), artifact, SANDBOX_ROWS)


def return_memory() -> None:
    """Return the memory of parsing to the system; glibc would keep twice the model's size."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl does not have it
        if trim:
            trim(0)


def warm_up(session: Session, artifact: Artifact, max_batch_size: int) -> None:
    """Run the golden tests and each kind of batch once, so that no client waits for a first run.

    Raises:
        InvalidArtifact: a run fails, or its outputs are wrong.
        DeviceError: the device fails.
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
    except Exception as exc:  # onnxruntime's exceptions have no common base class
        raise InvalidArtifact(f"{artifact.path} cannot be run: {exc}") from None
