"""Loads a model file: try it in the sandbox, open a session, run golden tests, warm up."""

from hashlib import sha256
from pathlib import Path

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.regular_file import read_regular_file
from service.artifact.strip import strip_metadata
from service.repository.engines.choice import choose_engine
from service.repository.golden import Pictures, check_outputs, run_golden_tests
from service.repository.memory import return_free_memory
from service.repository.sandbox import Sandbox
from service.runtime.engine import Session
from service.runtime.opening import choose_batch_size, open_session
from service.runtime.session import shrink_arena
from service.settings import DeviceError, Settings


def load_model_file(path: Path, settings: Settings, sandbox: Sandbox) -> tuple[Artifact, Session]:
    """Load one file into a session that is ready to answer.

    Raises:
        InvalidArtifact: the file cannot be served; the message says why.
        DeviceError: the device that the settings require does not work.
    """
    choice = choose_engine(path, settings, sandbox)
    artifact, size, pictures = choice.tried
    content = read_regular_file(path, size)
    if sha256(content).hexdigest() != artifact.sha256:
        raise InvalidArtifact(f"{path} changed while it was being validated.")
    content = strip_metadata(content)
    session = open_session(content, artifact, settings, choice.engine)
    session.engine = session.engine._replace(speedup=choice.speedup, reason=choice.reason)
    del content
    return_free_memory()  # glibc would keep twice the model's size
    warm_up(session, artifact, pictures, choose_batch_size(settings, session.provider))
    artifact.card.golden.clear()  # of many labels they are large
    session.release_memory()
    return_free_memory()
    return artifact, session


def warm_up(session: Session, artifact: Artifact, pictures: Pictures, max_batch_size: int) -> None:
    """Run the golden tests and each kind of batch once, so that no client waits for a first run.

    Raises:
        InvalidArtifact: a run fails, or its outputs are wrong.
        DeviceError: the device fails.
    """
    try:
        run_golden_tests(artifact, pictures, session.run, session.engine.precision)
        for rows in sorted({1, *session.sizes, max_batch_size}):
            for targets in (0, 1):
                outputs = session.run(*artifact.make_batch(rows, targets))
                check_outputs(outputs, artifact, rows, targets)
        if session.replicas > 1:
            run_golden_tests(artifact, pictures, session.run_replica, session.engine.precision)
    except (InvalidArtifact, DeviceError):
        raise
    except Exception as exc:  # the engines' exceptions have no common base class
        raise InvalidArtifact(f"{artifact.path} cannot be run: {exc}") from None


def release_memory() -> None:
    """Return the memory of sessions that are gone to the system."""
    shrink_arena()
    return_free_memory()
