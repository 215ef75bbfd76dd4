"""Bound batches of fixed sizes give the same answers as a plain run. Some tests need a GPU."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from service.artifact.validation import read_artifact
from service.runtime.cuda import CPU, CUDA, BoundSession, Tuning, list_sizes, open_bound, pin
from service.runtime.session import OnnxSession, has_cuda
from tests.service.quadrants_model import (
    add_familiarity,
    make_card,
    make_golden,
    make_graph,
    save,
)

SIDE = 32
needs_gpu = pytest.mark.skipif(not has_cuda(), reason="there is no CUDA provider, or no GPU")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with known answers and the optional output."""
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    card = make_card(confidence={"unfamiliar": {"score": "familiarity", "threshold": 0}})
    model = make_graph(card)
    card["golden"] = make_golden(model, card)
    add_familiarity(model)
    save(model, card, path)
    return path


@pytest.fixture(scope="module")
def bound(path: Path) -> BoundSession:
    """The code for a GPU, run with the CPU provider."""
    artifact, content = read_artifact(path)
    return BoundSession(ort.InferenceSession(content, providers=[CPU]), artifact, 12, bound=True)


def make_batch(rows: int, targets: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random images, and targets of which some are the row's own top-1."""
    random = np.random.default_rng(rows * 10 + targets)
    image = random.integers(0, 256, (rows, SIDE, SIDE, 3), np.uint8)
    return image, random.integers(-1, 4, (rows, targets))


def test_sizes_are_powers_of_two_up_to_the_largest() -> None:
    assert list_sizes(32) == (1, 2, 4, 8, 16, 32)
    assert list_sizes(12) == (1, 2, 4, 8, 12)
    assert list_sizes(1) == (1,)


@pytest.mark.parametrize("targets", [0, 1, 2, 3, 8])
@pytest.mark.parametrize("rows", [1, 3, 8, 9, 12])
def test_padded_batches_answer_as_plain_runs_do(
    path: Path, bound: BoundSession, rows: int, targets: int
) -> None:
    artifact, content = read_artifact(path)
    batch = make_batch(rows, targets)
    expected: Any = OnnxSession(content, artifact, "cpu", 1).run(*batch)
    for one, other in zip(expected[:3], bound.run(*batch)[:3], strict=True):
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_smaller_batch_is_not_disturbed_by_rows_of_a_larger_one(
    bound: BoundSession,
) -> None:
    small = make_batch(5, 1)
    alone = bound.run(*small)
    bound.run(*make_batch(8, 1))
    for one, other in zip(alone, bound.run(*small), strict=True):
        np.testing.assert_array_equal(one, other)


def test_answers_are_copies(bound: BoundSession) -> None:
    first = bound.run(*make_batch(8, 1))
    kept = [array.copy() for array in first[:3]]
    bound.run(*make_batch(7, 1))
    for one, other in zip(kept, first[:3], strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_a_gpu_memory_is_not_locked() -> None:
    if not has_cuda():
        assert not pin(np.zeros(16, np.uint8))


@pytest.mark.skipif(has_cuda(), reason="there is a GPU")
@pytest.mark.parametrize("tuning", [Tuning(), Tuning(graphs=False), Tuning(bound=False)])
def test_without_a_gpu_the_provider_is_the_cpu(path: Path, tuning: Tuning) -> None:
    artifact, content = read_artifact(path)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    found = open_bound(content, artifact, 8, options, tuning)
    assert found.provider == "cpu"
    assert found.run(*make_batch(3, 1)).cam.shape == (3, 1, 4, 4)


@needs_gpu
@pytest.mark.gpu
@pytest.mark.parametrize("tuning", [Tuning(), Tuning(graphs=False), Tuning(bound=False)])
def test_the_gpu_answers_as_the_cpu_does(path: Path, tuning: Tuning) -> None:
    """For any number of rows and targets, also none; captured, bound or neither; twice each."""
    artifact, content = read_artifact(path)
    ort.preload_dlls()
    plain: Any = OnnxSession(content, artifact, "cpu", 1)
    on_gpu = open_bound(content, artifact, 8, ort.SessionOptions(), tuning)
    assert on_gpu.provider == "cuda"
    for rows, targets in [(1, 0), (1, 1), (3, 1), (8, 3), (8, 0), (5, 1)] * 2:
        batch = make_batch(rows, targets)
        for one, other in zip(plain.run(*batch)[:3], on_gpu.run(*batch)[:3], strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, atol=1e-3)


@needs_gpu
@pytest.mark.gpu
def test_a_gpu_without_free_memory_raises_an_exception(path: Path) -> None:
    """The batcher passes it on to the rows; there is no wrong answer."""
    artifact, content = read_artifact(path)
    ort.preload_dlls()
    options = {"gpu_mem_limit": "1024"}

    def run() -> None:
        session = ort.InferenceSession(content, providers=[(CUDA, options)])
        BoundSession(session, artifact, 8, bound=False).run(*make_batch(8, 1))

    with pytest.raises(Exception, match=r"(?i)memory|allocat"):
        run()
