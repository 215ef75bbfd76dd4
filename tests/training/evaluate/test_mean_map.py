"""The mean maps in the card agree with sums by hand."""

import numpy as np
import pytest

from training.evaluate.mean_map import compute_border_weights, summarize_maps


def test_even_heat_has_the_share_of_the_border() -> None:
    """It is 1 - 0.8 x 0.8 for any cells. A cell across the line counts by its covered area."""
    for size in ((10, 10), (7, 7), (3, 20)):
        assert compute_border_weights(*size).mean() == pytest.approx(0.36)
    assert compute_border_weights(4, 4)[0] == pytest.approx(
        [1 - 0.6 * 0.6, 0.4, 0.4, 1 - 0.6 * 0.6]
    )
    assert compute_border_weights(10, 10)[5, 5] == pytest.approx(0)


def test_empty_maps_are_left_out_of_the_mean() -> None:
    """This holds for the mean over all maps and for each class."""
    cams = np.zeros((4, 10, 10), np.float32)
    cams[0, 0, 0], cams[1, 5, 5], cams[2, 5, 5] = 2, 1, 3
    cams[2, 0, 0] = -9  # evidence against is no heat
    cams[3] = -1  # empty
    found = summarize_maps(cams, np.array([0, 1, 1, 1]), ("a", "b", "c"))
    assert found["maps"] == 3
    assert found["border_share"] == pytest.approx(1 / 3, abs=1e-4)
    assert found["mean"][5][5] == pytest.approx(2 / 3, abs=1e-3)
    assert found["classes"].keys() == {"a", "b"}
    assert found["classes"]["a"]["border_share"] == 1
    assert found["classes"]["b"] | {"mean": None} == {"count": 2, "border_share": 0, "mean": None}
    assert found["classes"]["b"]["mean"][5][5] == 1


def test_large_maps_and_many_classes_are_left_out() -> None:
    """The card stays small."""
    cams = np.random.default_rng(0).random((5, 20, 20)).astype(np.float32)
    labels = tuple(map(str, range(21)))
    found = summarize_maps(cams, np.arange(5), labels)
    assert found["mean"] is None
    assert found["classes"] == {}
    assert 0.3 < found["border_share"] < 0.42


def test_empty_maps_alone_give_no_mean() -> None:
    """The figures are None."""
    found = summarize_maps(-np.ones((2, 4, 4), np.float32), np.zeros(2, np.int64), ("a",))
    assert found == {"maps": 0, "border_share": None, "mean": None, "classes": {}}
