"""The bounds within which `--precision auto` may choose a faster file."""

from collections.abc import Callable, Mapping
from typing import Any

MIN_SPEED = 1.2  # times that of 32 bits, on one thread; less is not worth the rounding
POINTS_LOST = 0.3  # of accuracy, plus one standard error of the change
MEAN_COSINE = 0.995  # of the maps
LEAST_COSINE = 0.95
POINTING = 0.97  # share of the maps whose hottest cell is the same or a neighbour
CALIBRATION_POINTS_LOST = 0.5  # of the expected calibration error

BOUNDS: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "accuracy": lambda f: -f["accuracy_points"] <= POINTS_LOST + f["accuracy_points_error"],
    "mean cosine": lambda f: f["cam_cosine"] >= MEAN_COSINE,
    "least cosine": lambda f: f["cam_cosine_worst"] >= LEAST_COSINE,
    "hottest cell": lambda f: f["cam_pointing_near"] >= POINTING,
    "calibration": lambda f: f["calibration_points"] <= CALIBRATION_POINTS_LOST,
    "speed": lambda f: f["cpu_speed"] >= MIN_SPEED,
}


def find_missed_bounds(figures: Mapping[str, Any]) -> list[str]:
    """The names of the bounds that these figures of a candidate do not keep."""
    return [name for name, holds in BOUNDS.items() if not holds(figures)]
