"""From a file to a session that can answer: judged, tried, loaded, probed, warmed, in turn."""

import ctypes
import sys
from pathlib import Path

from service.artifact.card import Artefact, BadArtefact
from service.artifact.validation import read_artefact
from service.repository.golden import check_outputs, probe_golden
from service.repository.sandbox import Trials
from service.runtime.session import AnySession, Session, choose_batch_size, open_session
from service.settings import DeviceFault, Settings

TRIED_ROWS = 2


def load_file(path: Path, settings: Settings, trials: Trials) -> tuple[Artefact, AnySession]:
    """Make a session of one file.

    Raises:
        BadArtefact: unfit to serve, for the reason in its message.
        DeviceFault: the device that was insisted on does not work.
    """
    artefact, content = read_artefact(path)
    trials.judge(path, artefact.sha256)
    session = open_session(content, artefact, settings)
    del content
    return_memory()
    run_first(session, artefact, choose_batch_size(settings, session.provider))
    return artefact, session


def try_file(path: Path, sha256: str) -> None:
    """The same on a CPU with small batches, in a process that may die of it.

    Raises:
        BadArtefact: unfit to serve, for the reason in its message.
    """
    artefact, content = read_artefact(path)
    if artefact.sha256 != sha256:
        raise BadArtefact(f"{path} changed while it was being judged.")
    run_first(Session(content, artefact, "cpu", 1), artefact, TRIED_ROWS)


def return_memory() -> None:
    """Give the system back what parsing took, twice a model's size: glibc would keep it."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim:
            trim(0)


def run_first(session: AnySession, artefact: Artefact, max_batch_size: int) -> None:
    """Probe it, and run each kind of batch once, so that no client pays for the first time.

    Raises:
        BadArtefact: it fails, or answers something else than it should.
        DeviceFault: the device fails.
    """
    try:
        probe_golden(artefact, session.run)
        for rows in sorted({1, *session.sizes, max_batch_size}):
            for targets in (0, 1):
                outputs = session.run(*artefact.make_batch(rows, targets))
                check_outputs(outputs, artefact, rows, targets)
        if session.lanes > 1:
            probe_golden(artefact, session.run_part)
    except (BadArtefact, DeviceFault):
        raise
    except Exception as fault:  # onnxruntime's exceptions share no base of their own
        raise BadArtefact(f"{artefact.path} can't be run: {fault}") from None
