"""The sums of where a model looks: arrays in, means out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.artifact.validation import read_artifact
from service.repository.attention import (
    MAX_BYTES,
    Attention,
    Observation,
    map_sums_file,
    measure_border_weights,
    measure_distance,
)
from service.runtime.engine import Outputs
from tests.service.quadrants_model import LABELS, write_model
from tests.service.stamp_model import GRID, measure_border


@pytest.fixture
def attention(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attention:
    """Of a model with 1,000 labels and a 4 x 4 map."""
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    path = tmp_path / "model.onnx"
    write_model(path, labels=[*LABELS, *(f"no. {n}" for n in range(996))])
    return Attention("many", "1", read_artifact(path)[0])


def make_outputs(tops: list[int], cam: NDArray[np.float64]) -> Outputs:
    logits = np.eye(1000, dtype=np.float32)[tops]  # (N, K)
    return Outputs(logits, logits, cam.astype(np.float32))


def test_the_border_is_weighted_by_area() -> None:
    expected = [[measure_border(row, column) for column in range(GRID)] for row in range(GRID)]
    assert measure_border_weights(GRID, GRID) == pytest.approx(np.array(expected), abs=3e-3)
    for shape in ((1, 1), (3, 7), (10, 10), (28, 13)):
        assert measure_border_weights(*shape).mean() == pytest.approx(1 - 0.8**2)


def test_the_distance_is_0_for_the_same_shape_and_1_for_disjoint_ones() -> None:
    one, other = np.zeros((4, 4)), np.zeros((4, 4))
    one[0], other[3] = 2, 1
    assert measure_distance(one, 5 * one) == 0
    assert measure_distance(one, other) == 1
    assert measure_distance(one, one + other * 2) == pytest.approx(0.5)
    assert measure_distance(one, np.zeros((4, 4))) is None
    assert measure_distance(one, np.ones((5, 5))) is None


def test_a_row_is_counted_by_the_map_of_its_own_top_1(attention: Attention) -> None:
    cam = np.zeros((3, 2, 4, 4))
    cam[0, 1, 1, 1] = 4  # the map of its top-1 is the second target
    cam[1, 0, 0, 0] = 2  # the map of its own top-1, found by the graph
    cam[2, :, 0, 0] = 1  # both maps are of other classes than its top-1
    target = np.array([[3, 7], [-1, 3], [1, 2]])
    attention.add(make_outputs([7, 7, 999], cam), target, [True, True, True])
    whole, classes = attention.describe()
    assert whole.observed.maps == 2
    [(label, compared)] = classes
    assert label == "no. 3"  # the 7th index
    mean = compared.observed.mean
    assert mean is not None
    assert mean[1, 1] == mean[0, 0] == 0.5  # each over its own peak
    expected = (measure_border_weights(4, 4)[1, 1] + measure_border_weights(4, 4)[0, 0]) / 2
    assert whole.observed.border_share == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("level", [0, -1, 3])
def test_maps_without_evidence_are_left_out(attention: Attention, level: float) -> None:
    cam = np.full((1, 1, 4, 4), level)
    attention.add(make_outputs([0], cam), np.array([[-1]]), [True])
    assert attention.describe().whole.observed == Observation(0, None, None)


def test_rows_that_do_not_count_and_batches_without_maps_are_ignored(
    attention: Attention,
) -> None:
    cam = np.eye(4)[np.newaxis, np.newaxis].repeat(2, 0)
    attention.add(make_outputs([0, 1], cam), np.full((2, 1), -1), [False, True])
    attention.add(make_outputs([0, 1], cam[:, :0]), np.empty((2, 0), np.int64), [True, True])
    assert [label for label, _ in attention.describe().classes] == [LABELS[1]]


def test_a_thousand_classes_stay_within_bounds(
    attention: Attention, monkeypatch: pytest.MonkeyPatch
) -> None:
    total = attention.total()
    assert total.sums.shape == (1000, 2 + 16)
    assert total.sums.nbytes < MAX_BYTES
    monkeypatch.setattr("service.repository.attention.MAX_BYTES", 10 * 8 * (2 + 16))
    small = Attention("many", "1", attention._artifact)
    cam = np.eye(4)[np.newaxis, np.newaxis].repeat(3, 0)
    small.add(make_outputs([4, 10, 900], cam), np.full((3, 1), -1), [True] * 3)
    whole, classes = small.describe()
    assert small.total().sums.shape[0] == 10
    assert whole.observed.maps == 3  # the mean map of all classes has all three
    assert [label for label, _ in classes] == ["no. 0"]  # the 4th index: the others share a row


def test_a_new_worker_continues_the_sums_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "sums" / "1"
    first = map_sums_file(path, 10)
    first[3] = 7
    again = map_sums_file(path, 10)
    assert again[3] == 7
    assert [file.stat().st_size for file in path.parent.iterdir()] == [80]


def test_no_sums_are_kept_of_maps_that_are_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    write_model(tmp_path / "model.onnx")
    artifact = replace(read_artifact(tmp_path / "model.onnx")[0], map_shape=(4096, 4096))
    attention = Attention("large", "1", artifact)
    logits = np.eye(4, dtype=np.float32)[:1]
    attention.add(
        Outputs(logits, logits, np.ones((1, 1, 1, 1), np.float32)), np.array([[-1]]), [True]
    )
    assert attention.total().sums.size == 0
