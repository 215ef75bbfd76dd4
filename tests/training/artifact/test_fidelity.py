"""How far a file is from 32 bits is measured as the card says, and judged by the bounds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.artifact.fidelity import Answers, compare_answers, count_steps, measure_harm
from training.artifact.precision_bounds import find_missed_bounds

WITHIN = {
    "accuracy_points": -0.5,
    "accuracy_points_error": 0.2,
    "cam_cosine": 0.995,
    "cam_cosine_worst": 0.95,
    "cam_pointing_near": 0.97,
    "calibration_points": 0.5,
    "cpu_speed": 1.2,
}


def make_answers(best: list[int], maps: NDArray[np.float32]) -> Answers:
    """Answers that are sure of the given classes out of three."""
    return Answers(np.array(best), np.eye(3, dtype=np.float32)[best], maps)


def make_map(row: int, column: int) -> NDArray[np.float32]:
    found = np.ones((4, 4), np.float32)
    found[row, column] = 2
    return found


def test_accuracy_is_compared_picture_by_picture() -> None:
    """Two of four answers changed: one to the wrong label, one from a wrong to a wrong label."""
    maps = np.stack([make_map(0, 0)] * 4)
    full, other = make_answers([0, 1, 2, 2], maps), make_answers([0, 1, 0, 1], maps)
    found = compare_answers(full, other, np.array([0, 1, 2, 0]))
    assert (found["accuracy_fp32"], found["accuracy_points"]) == (0.75, -25)
    assert found["accuracy_points_error"] == pytest.approx(100 * np.sqrt(0.1875 / 4), abs=1e-3)
    assert found["top1_changed"] == 2
    unlabelled = compare_answers(full, other)
    assert (unlabelled["accuracy_fp32"], unlabelled["accuracy_points"]) == (1, -50)


def test_several_labels_count_by_their_share() -> None:
    maps = np.stack([make_map(0, 0)] * 2)
    full = Answers(np.zeros(2, int), np.array([[0.9, 0.1], [0.9, 0.9]], np.float32), maps)
    other = Answers(np.zeros(2, int), np.array([[0.9, 0.6], [0.9, 0.9]], np.float32), maps)
    found = compare_answers(full, other, np.array([[1, 0], [1, 1]], np.float32))
    assert (found["accuracy_fp32"], found["accuracy_points"]) == (1, -25)


def test_the_hottest_cell_may_move_to_a_neighbour() -> None:
    """Also diagonally. Two cells away is another place."""
    assert [count_steps(make_map(1, 1), make_map(*at)) for at in ((1, 1), (2, 2), (1, 3))] == [
        0, 1, 2
    ]  # fmt: skip
    full = make_answers([0, 0, 0, 0], np.stack([make_map(1, 1)] * 4))
    places = ((1, 1), (0, 0), (1, 2), (3, 1))
    found = compare_answers(full, make_answers([0] * 4, np.stack([make_map(*at) for at in places])))
    assert (found["cam_pointing"], found["cam_pointing_near"]) == (0.25, 0.75)


def test_the_harm_sees_changes_of_flat_maps() -> None:
    """Their cosine is nearly 1 although the hottest cell is another."""
    flat = np.full((4, 4), 10, np.float32)
    one, other = flat + make_map(0, 0), flat + make_map(3, 3)
    full, changed = make_answers([0], one[None]), make_answers([0], other[None])
    assert compare_answers(full, changed)["cam_cosine"] > 0.99
    assert measure_harm(full, changed) > 1
    assert measure_harm(full, full) == pytest.approx(0, abs=1e-9)


def test_each_bound_is_kept_at_its_limit_and_missed_beyond_it() -> None:
    """Of accuracy, one standard error more than 0.3 points may be lost."""
    assert find_missed_bounds(WITHIN) == []
    beyond = {
        "accuracy": {"accuracy_points": -0.51},
        "mean cosine": {"cam_cosine": 0.9949},
        "least cosine": {"cam_cosine_worst": 0.9499},
        "hottest cell": {"cam_pointing_near": 0.9699},
        "calibration": {"calibration_points": 0.51},
        "speed": {"cpu_speed": 1.19},
    }
    for name, changed in beyond.items():
        assert find_missed_bounds(WITHIN | changed) == [name]
    everything = {key: value for changed in beyond.values() for key, value in changed.items()}
    assert find_missed_bounds(WITHIN | everything) == list(beyond)
    assert find_missed_bounds(WITHIN | {"cam_cosine": float("nan")}) == ["mean cosine"]
