"""Which session is opened for a model, and what it says if that fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.validation import read_artifact
from service.runtime import opening
from service.runtime.engine import Session
from service.runtime.opening import choose_batch_size, open_session
from service.runtime.session import OnnxSession, ReplicatedSession, has_cuda
from service.settings import DeviceError, read_settings
from tests.service.quadrants_model import write_model

Model = tuple[bytes, Artifact]
Measure = Callable[..., float]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    write_model(tmp_path / "model.onnx")
    artifact, content = read_artifact(tmp_path / "model.onnx")
    return content, artifact


def open_with(
    model: Model, monkeypatch: pytest.MonkeyPatch, run_seconds: float | Measure, **settings: str
) -> Session:
    """Open a session on four cores. Each run takes `run_seconds`, or what that returns."""
    monkeypatch.setenv("SIGHTGLASS_DEVICE", "cpu")
    for name, value in settings.items():
        monkeypatch.setenv(f"SIGHTGLASS_{name.upper()}", value)
    monkeypatch.setattr(opening, "count_cores", lambda: 4)
    measure = run_seconds if callable(run_seconds) else lambda *_: run_seconds
    monkeypatch.setattr(opening, "measure_run", measure)
    return open_session(*model, read_settings())


def test_a_fast_model_runs_inline_on_one_thread(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_with(model, monkeypatch, 0.0001)
    assert isinstance(session, OnnxSession)
    assert (session.run_inline, session.replicas, session.sizes) == (True, 1, ())


def test_a_slow_model_has_a_replica_on_each_core(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_with(model, monkeypatch, 1)
    assert isinstance(session, ReplicatedSession)
    assert (session.run_inline, session.replicas, session.provider) == (False, 4, "cpu")
    batch = model[1].make_batch(3, 1)
    one: Any
    other: Any
    for one, other in zip(session.run(*batch)[:3], session.run_replica(*batch)[:3], strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(("batch_seconds", "expected"), [(0.041, False), (0.042, True)])
def test_rows_run_alone_if_each_takes_longer_in_a_batch(
    model: Model, monkeypatch: pytest.MonkeyPatch, batch_seconds: float, expected: bool
) -> None:
    def measure(_session: object, _artifact: object, size: int = 1, _targets: int = 0) -> float:
        return 0.010 if size == 1 else batch_seconds

    session = open_with(model, monkeypatch, measure)
    assert isinstance(session, ReplicatedSession)
    assert session.rows_alone == expected


def test_a_slow_model_that_is_too_large_for_replicas_uses_all_cores(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "MAX_REPLICATED_BYTES", 10)
    session = open_with(model, monkeypatch, 1)
    assert isinstance(session, OnnxSession)
    assert (session.run_inline, session.replicas) == (False, 1)


def test_with_a_given_number_of_threads_nothing_is_measured(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = open_with(model, monkeypatch, 1, intra_op_threads="2")
    assert isinstance(session, OnnxSession)
    assert (session.run_inline, session.replicas) == (False, 1)


def test_the_batch_size_is_the_setting_or_depends_on_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert choose_batch_size(read_settings(), "cpu") == 8
    assert choose_batch_size(read_settings(), "cuda") == 32
    monkeypatch.setenv("SIGHTGLASS_MAX_BATCH_SIZE", "5")
    assert choose_batch_size(read_settings(), "cuda") == 5


def test_a_graph_that_onnxruntime_rejects_is_an_invalid_artifact(model: Model) -> None:
    with pytest.raises(InvalidArtifact, match=r"model\.onnx is rejected by onnxruntime: "):
        OnnxSession(b"no graph", model[1], "cpu", 1)


@pytest.mark.skipif(has_cuda(), reason="there is a GPU")
def test_without_a_gpu_cuda_is_an_error_that_says_what_is_missing(model: Model) -> None:
    with pytest.raises(DeviceError, match=r"SIGHTGLASS_DEVICE=cuda does not work: .*auto"):
        OnnxSession(*model, "cuda", 1)
