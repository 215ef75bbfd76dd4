"""On a mosaic of four pictures, the heat for a class lies on its tile unless the map is wrong."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training import blobs
from training.evaluate.pointing_game import (
    MIN_HIT_RATE,
    find_obstacle,
    find_pointing_doubts,
    make_mosaic,
    make_tile_index,
    play_pointing_game,
)
from training.imaging.preprocessing import Pixels


def test_a_true_map_finds_the_tile() -> None:
    """It does so in nine of ten cases, with most of its heat."""
    coarse = blobs.draw(48, 2, coarse=True)
    found = play_pointing_game(blobs.lesson().run, coarse.pictures, coarse.labels, 20)
    assert found["hits"] >= MIN_HIT_RATE
    assert found["heat_inside"] > 0.6
    assert find_pointing_doubts(found) == []


@pytest.mark.parametrize("lie", ["shuffled", "constant", "another target's", "of a random network"])
def test_a_false_map_misses_the_tile(lie: str) -> None:
    """It hits less than half of the tiles, and a doubt says so."""
    lesson = blobs.lesson()
    rng = np.random.default_rng(0)

    def run(image: Pixels, target: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        from_whom = lesson._replace(model=blobs.randomised()) if "random" in lie else lesson
        logits, p, cam = from_whom.run(image, target)
        if lie == "shuffled":
            cam = rng.permuted(cam.reshape(*cam.shape[:2], -1), axis=2).reshape(cam.shape)
        return [logits, p, np.ones_like(cam) if lie == "constant" else
                np.roll(cam, 1, 1) if lie == "another target's" else cam]  # fmt: skip

    coarse = blobs.draw(48, 2, coarse=True)
    found = play_pointing_game(run, coarse.pictures, coarse.labels, 20)
    assert found["hits"] < 0.5
    [doubt] = find_pointing_doubts(found)
    assert "of four pictures in one" in doubt


def test_empty_maps_have_no_heat_to_share() -> None:
    """They miss every tile. Their share of heat is not defined."""

    def run(image: Pixels, target: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        logits, p, cam = blobs.lesson().run(image, target)
        return [logits, p, np.zeros_like(cam)]

    coarse = blobs.draw(48, 2, coarse=True)
    found = play_pointing_game(run, coarse.pictures, coarse.labels, 4)
    assert found["hits"] == 0
    assert found["heat_inside"] is None


def test_each_picture_fills_its_tile() -> None:
    """Tiles are in reading order and half the size, also for odd sides."""
    four = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 51, 40, 1), np.uint8)
    assert (make_mosaic(four)[..., 0] == make_tile_index((51, 40))).all()


@pytest.mark.parametrize(
    ("size", "cells", "classes", "sentence"),
    [
        ((28, 28), (10, 10), 10, "28 x 28 has no room for four"),
        ((64, 64), (2, 2), 10, "too coarse"),
        ((64, 64), (4, 4), 3, "there are 3"),
        ((64, 64), (4, 4), 4, ""),
    ],
)
def test_an_obstacle_is_named(
    size: tuple[int, int], cells: tuple[int, int], classes: int, sentence: str
) -> None:
    """A digit, for example, is too small for a tile."""
    reason = find_obstacle(*size, cells, classes)
    assert sentence in reason
    assert bool(reason) == bool(sentence)
