"""A file's first run happens apart: what it dies of is told, and the next is tried."""

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.artifact.card import InvalidArtifact
from service.repository import sandbox as trial
from service.repository.loader import try_model_file
from service.repository.sandbox import Sandbox
from tests.service.mutations import judge, mutate
from tests.service.quadrants import write_model

FILE = Path("models/any/1/model.onnx")
MUTATIONS = 150


def crash() -> None:
    ctypes.string_at(0)


def hang() -> None:
    while True:
        time.sleep(1)


def burst() -> None:
    np.empty(2 * trial.MEMORY_BYTES, np.uint8)


def refuse() -> None:
    raise InvalidArtifact("not like this")


def fail() -> None:
    raise RuntimeError("something else")


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("attempt", "told"),
    [
        (crash, "crashes onnxruntime (SIGSEGV)"),
        (hang, "is not done with its first pictures"),
        (burst, "bytes of memory"),
        (refuse, "not like this"),
        (fail, "RuntimeError: something else"),
        (kill, "was killed"),
    ],
)
def test_what_a_trial_dies_of_is_told(
    attempt: Callable[[], None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if attempt is hang:
        monkeypatch.setattr(trial, "SECONDS", 1)
    if attempt is burst:
        monkeypatch.setattr(trial, "MEMORY_BYTES", 1 << 28)

    def attempt_once(path: Path, sha256: str) -> None:
        assert path == FILE
        if sha256 == "bad":
            attempt()

    trials = Sandbox(attempt_once)
    with pytest.raises(InvalidArtifact) as refused:
        trials.validate(FILE, "bad")
    assert told in str(refused.value)
    trials.validate(FILE, "good")


def test_a_nursery_that_was_killed_is_replaced() -> None:
    trials = Sandbox(lambda *_: os.kill(os.getppid(), signal.SIGKILL))
    with pytest.raises(InvalidArtifact, match="does not live"):
        trials.validate(FILE, "any")
    fine = Sandbox(lambda *_: None)
    fine.start()
    assert fine._nursery
    fine._nursery.close()
    fine.validate(FILE, "any")


def test_a_file_that_changes_meanwhile_is_not_taken(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx")
    with pytest.raises(InvalidArtifact, match="changed while"):
        Sandbox(try_model_file).validate(tmp_path / "model.onnx", "0" * 64)


def test_files_gone_wrong_at_random_are_fit_or_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(path)
    content, trials = path.read_bytes(), Sandbox(try_model_file)
    assert judge(content, path, trials) == ""
    reasons = [judge(mutate(content, seed), path, trials) for seed in range(MUTATIONS)]
    refused = [reason for reason in reasons if reason]
    assert len(refused) > MUTATIONS / 2
    assert all(str(path) in reason for reason in refused)
    assert judge(content, path, trials) == ""
