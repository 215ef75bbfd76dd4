"""The figures are high for a true map, and low for a false one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training import blobs
from training.evaluate.faithfulness import (
    Faithfulness,
    blur_picture,
    find_faithfulness_doubts,
    make_part_masks,
    measure_faithfulness,
    summarize_faithfulness,
)
from training.gradcam.heatmap import render_heatmap


def shuffled(cams: NDArray[np.float32]) -> NDArray[np.float32]:
    """The maps with the cells of each in random order."""
    rng = np.random.default_rng(0)
    return rng.permuted(cams.reshape(len(cams), -1), axis=1).reshape(cams.shape)


def of_a_randomised_network() -> NDArray[np.float32]:
    """The maps of a network whose weights are shuffled."""
    return blobs.explained(blobs.randomised(), blobs.lesson().seen.pictures)[1]


def measured(cams: NDArray[np.float32]) -> Faithfulness:
    lesson = blobs.lesson()
    return measure_faithfulness(lesson.predict, lesson.seen.pictures, cams, lesson.answers)


def test_a_true_map_raises_no_doubt() -> None:
    """It is far better than chance and than the middle, and its hottest part matters most."""
    lesson = blobs.lesson()
    assert (lesson.answers == lesson.seen.labels).mean() > 0.95
    found = measured(lesson.cams)
    figures = summarize_faithfulness(found)
    assert find_faithfulness_doubts(found) == []
    assert figures["pictures"] == 48
    assert figures["empty"] == 0
    assert figures["deletion"] + 0.2 < figures["random"] < figures["insertion"]
    assert figures["score"] == pytest.approx(figures["insertion"] - figures["deletion"], abs=2e-4)
    parts = figures["blurred"]
    assert parts["hottest"] + 0.2 < min(parts["none"], parts["coldest"], parts["moved"])
    assert parts["hottest_hurts_more"] > 0.9


@pytest.mark.parametrize(
    ("lie", "share"),
    [("shuffled", 0.2), ("another picture's", 0.25), ("turned", 0), ("of a random network", 0.7)],
)
def test_a_false_map_scores_low(lie: str, share: float) -> None:
    """The score is below a share of the true map's score, and a doubt says so.

    A random network's map still finds edges, and here all edges are evidence. That it knows no
    class shows in the pointing game (test_pointing_game.py).
    """
    cams = blobs.lesson().cams
    found = measured(
        {
            "shuffled": lambda: shuffled(cams),
            "another picture's": lambda: np.roll(cams, 1, 0),
            "turned": lambda: -cams,
            "of a random network": of_a_randomised_network,
        }[lie]()
    )
    figures = summarize_faithfulness(found)
    assert figures["score"] < share * summarize_faithfulness(measured(cams))["score"]
    if lie != "of a random network":
        assert any("blob in the middle" in doubt for doubt in find_faithfulness_doubts(found))


def test_a_constant_map_is_empty() -> None:
    """It scores like chance, and has no figures of parts."""
    found = measured(np.ones_like(blobs.lesson().cams))
    figures = summarize_faithfulness(found)
    assert figures["empty"] == 1
    assert abs(figures["score"]) < 0.05
    assert figures["blurred"] is None
    doubts = find_faithfulness_doubts(found)
    assert "100% of the maps are empty" in doubts
    assert "the map orders pixels no better than chance" in doubts


def test_curves_run_between_the_picture_and_its_blur() -> None:
    """The ends are the same for every order. The same seed gives the same figures."""
    lesson = blobs.lesson()
    found = measured(lesson.cams)
    own = lesson.predict(lesson.seen.pictures)[np.arange(48), lesson.answers]
    soft = np.stack([blur_picture(picture) for picture in lesson.seen.pictures])
    gone = lesson.predict(soft)[np.arange(48), lesson.answers]
    for name, curve in found.curves.items():
        first, last = (gone, own) if "insertion" in name else (own, gone)
        assert np.allclose(curve[:, 0], first, atol=1e-6)
        assert np.allclose(curve[:, -1], last, atol=1e-6)
    again = measured(lesson.cams)
    assert all(np.array_equal(found.curves[name], again.curves[name]) for name in found.curves)


def test_parts_have_the_same_size() -> None:
    """Each is a fifth of the picture, in the place that its name says."""
    cam = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    shown = render_heatmap(cam, (40, 40))
    parts = make_part_masks(cam, shown, np.random.default_rng(0))
    assert {name: int(part.sum()) for name, part in parts.items()} == dict.fromkeys(parts, 320)
    rows = {name: np.nonzero(part)[0].mean() for name, part in parts.items()}
    assert rows["against"] < rows["moved"] < rows["coldest"] < rows["hottest"]
