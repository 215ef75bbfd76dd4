"""The speed of one session over another is the ratio of their CPU time."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.artifact.validation import read_artifact
from service.runtime import comparison
from service.runtime.comparison import measure_speedup
from service.runtime.engine import AnyOutputs
from service.runtime.session import OnnxSession
from tests.service.quadrants_model import write_model


class Clock:
    """A clock that only the sessions move."""

    def __init__(self) -> None:
        self.now = 0.0

    def read(self) -> float:
        return self.now


def test_the_fastest_round_of_each_counts_and_the_first_run_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model.onnx")
    artifact, content = read_artifact(tmp_path / "model.onnx")
    clock = Clock()
    batches = []

    class TimedSession(OnnxSession):
        """A session of which each run takes the next of some durations, then the last again."""

        def __init__(self, *seconds: float) -> None:
            super().__init__(content, artifact, "cpu", 1)
            self._seconds = list(seconds)

        def run(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> AnyOutputs:
            batches.append(target.shape)
            clock.now += self._seconds.pop(0) if len(self._seconds) > 1 else self._seconds[0]
            return super().run(image, target)

    monkeypatch.setattr(comparison, "read_cpu_seconds", clock.read)
    # Runs in turn: four to warm up, then two of one row, two of four rows, and so on.
    fast = TimedSession(9, 9, 9, 9, 2, 2, 8, 8, 2, 2, 4)
    slow = TimedSession(0, 0, 0, 0, 3, 3, 24, 24)
    assert measure_speedup(fast, slow, artifact, 4) == 3
    assert set(batches) == {(1, 0), (1, 1), (4, 0), (4, 1)}
