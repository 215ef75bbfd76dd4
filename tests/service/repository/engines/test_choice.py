"""With `auto` a file is served by OpenVINO if that is worth it, and is measured once."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pydantic_core import to_json

from service.artifact.card import InvalidArtifact
from service.repository.engines import choice as module
from service.repository.engines.choice import Choice, choose_engine
from service.repository.engines.measurements import Measurement
from service.repository.sandbox import Sandbox
from service.repository.trial import try_model_file
from service.runtime.engine import COMPARE, ONNXRUNTIME, OPENVINO
from service.runtime.openvino import is_installed
from service.settings import read_settings
from tests.service.quadrants_model import write_model

pytestmark = pytest.mark.skipif(not is_installed(), reason="needs the package openvino")
Attempt = Callable[[], Measurement]


class Attempts:
    """Sandboxes in which comparing gives what it is told, and each trial passes if it may."""

    def __init__(self, folder: Path) -> None:
        self._record = folder / "record"
        self.path = folder / "model.onnx"
        write_model(self.path)

    def choose(self, compare: Attempt, *failing: str) -> tuple[Choice, list[str]]:
        """Choose as a worker that has just started, and return what its sandbox was asked to do."""
        self._record.write_text("")
        settings = read_settings()

        def attempt(path: Path, task: str) -> bytes:
            with self._record.open("a") as file:
                file.write(f"{task}\n")
            if task in failing:
                raise InvalidArtifact(f"{task} fails")
            if task == COMPARE:
                return to_json(compare())
            return try_model_file(settings, path)  # in this process's child: always onnxruntime

        chosen = choose_engine(self.path, settings, Sandbox(attempt))
        return chosen, self._record.read_text().split()


@pytest.fixture
def attempts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SIGHTGLASS_DEVICE", "auto")
    monkeypatch.setattr(module, "has_cuda", lambda: False)
    return Attempts(tmp_path)


def give(speedup: float | None, fault: str | None = None) -> Attempt:
    return partial(Measurement, speedup, fault)


def crash() -> Measurement:
    raise RuntimeError("a crash")


@pytest.mark.parametrize(
    ("speedup", "engine"), [(2.0, OPENVINO), (1.2, OPENVINO), (1.19, ONNXRUNTIME)]
)
def test_the_faster_engine_is_chosen_and_the_next_start_tries_only_that(
    attempts: Attempts, speedup: float, engine: str
) -> None:
    chosen, tasks = attempts.choose(give(speedup))
    assert (chosen.engine, chosen.speedup) == (engine, speedup)
    assert chosen.reason == (
        f"OpenVINO is {speedup} times as fast as onnxruntime here; it is used from 1.2 on."
    )
    assert tasks == [ONNXRUNTIME, COMPARE]
    again, tasks = attempts.choose(crash)
    assert again[1:] == chosen[1:]
    assert tasks == [engine]


def test_what_openvino_cannot_serve_stays_in_onnxruntime_and_is_not_tried_again(
    attempts: Attempts,
) -> None:
    expected = (ONNXRUNTIME, None, "it fails golden test 1")
    chosen, _ = attempts.choose(give(None, "it fails golden test 1"))
    assert chosen[1:] == expected
    again, tasks = attempts.choose(crash)
    assert again[1:] == expected
    assert tasks == [ONNXRUNTIME]


def test_a_crash_of_openvino_is_no_fault_of_the_file_and_is_not_kept(attempts: Attempts) -> None:
    chosen, _ = attempts.choose(crash)
    assert chosen.engine == ONNXRUNTIME
    assert chosen.reason is not None
    assert "a crash" in chosen.reason
    again, tasks = attempts.choose(give(2.0))
    assert again.engine == OPENVINO
    assert tasks == [ONNXRUNTIME, COMPARE]


def test_if_openvino_fails_although_it_was_chosen_before_onnxruntime_serves(
    attempts: Attempts,
) -> None:
    attempts.choose(give(2.0))
    chosen, tasks = attempts.choose(crash, OPENVINO)
    assert chosen[1:] == (ONNXRUNTIME, None, "openvino fails")
    assert tasks == [OPENVINO, ONNXRUNTIME]


def test_a_file_that_onnxruntime_rejects_is_not_measured(attempts: Attempts) -> None:
    with pytest.raises(InvalidArtifact, match="onnxruntime fails"):
        attempts.choose(crash, ONNXRUNTIME)


@pytest.mark.parametrize("why", ["cpu is set", "there is a GPU", "OpenVINO is not installed"])
def test_nothing_is_measured_if_there_is_no_choice(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "cpu is set":
        monkeypatch.setenv("SIGHTGLASS_DEVICE", "cpu")
    elif why == "there is a GPU":
        monkeypatch.setattr(module, "has_cuda", lambda: True)
    else:
        monkeypatch.setattr(module, "is_installed", lambda: False)
    chosen, tasks = attempts.choose(give(2.0))
    assert chosen[1:] == (ONNXRUNTIME, None, None)
    assert tasks == [ONNXRUNTIME]
