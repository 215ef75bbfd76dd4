"""The thresholds of the warnings, on answers whose distribution is known."""

import numpy as np
import pytest
from numpy.typing import NDArray

from training.evaluate.confidence import (
    Outputs,
    compute_auroc,
    describe_confidence,
    find_label_thresholds,
    find_score_threshold,
    find_threshold,
    measure_confidence,
    measure_selection,
)

RNG = np.random.default_rng(3)


def make_calibrated(count: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probabilities spread evenly over 0.5 … 1, each right as often as it says."""
    top = RNG.uniform(0.5, 1, count)
    return top, RNG.random(count) > top


def make_outputs(largest: NDArray[np.float64], labels: int = 5) -> Outputs:
    """Outputs whose largest logit is given; the others are 0."""
    logits = np.zeros((len(largest), labels), np.float32)
    logits[:, 1] = largest
    exponentials = np.exp(logits.astype(np.float64))
    return Outputs(logits, (exponentials / exponentials.sum(1, keepdims=True)).astype(np.float32))


def test_answers_at_or_above_the_threshold_are_wrong_half_as_often() -> None:
    """If p is even over 0.5 … 1, the error above t is (1 - t) / 2: half of 0.25 at t = 0.75."""
    top, wrong = make_calibrated(40_000)
    found = measure_selection(top, wrong)
    assert found["threshold"] == pytest.approx(0.75, abs=0.02)
    assert found["coverage"] == pytest.approx(0.5, abs=0.03)
    assert found["error"] == pytest.approx(found["error_of_all"] / 2, rel=0.05)
    kept = top >= found["threshold"]
    assert wrong[kept].mean() <= wrong.mean() / 2


def test_the_coverage_is_that_of_pictures_the_threshold_has_not_seen() -> None:
    """Of few answers, the cross-fitted figures are as good as on new ones, on average."""
    found = [measure_selection(*make_calibrated(300)) for _ in range(30)]
    assert np.mean([it["error"] for it in found]) == pytest.approx(0.125, abs=0.015)


def test_the_curve_ends_with_the_error_of_all_answers() -> None:
    top, wrong = make_calibrated(1000)
    found = measure_selection(top, wrong)
    assert found["curve"][-1] == [1.0, found["error_of_all"]]
    coverages = [coverage for coverage, _ in found["curve"]]
    assert coverages == sorted(set(coverages))
    assert len(coverages) <= 40


def test_equal_probabilities_are_kept_or_warned_of_together() -> None:
    top = np.repeat([0.9, 0.6], 100)
    wrong = np.arange(200) % 100 < np.repeat([5, 40], 100)
    assert find_threshold(top, wrong) == 0.9


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (np.arange(500) < 9, "9 mistakes are too few to find a threshold"),
        (np.arange(500) % 2 == 0, "no threshold halves the error"),
    ],
)
def test_without_a_threshold_the_reason_is_said(wrong: NDArray[np.bool_], reason: str) -> None:
    found = measure_selection(np.linspace(0.9, 0.1, 500), wrong)
    assert (found["threshold"], found["coverage"], found["reason"]) == (None, None, reason)


def test_a_label_gets_the_threshold_of_its_best_f1() -> None:
    p = np.array([[0.9, 0.2], [0.8, 0.3], [0.3, 0.1], [0.2, 0.4]])
    marks = np.array([[True, False], [True, False], [False, False], [False, False]])
    assert find_label_thresholds(p, marks) == [0.8, 0.5]


@pytest.mark.parametrize(("count", "most"), [(66, 0.0151), (80, 0.0125), (500, 0.01)])
def test_new_pictures_of_the_kind_are_seldom_called_unfamiliar(count: int, most: float) -> None:
    shares = []
    for _ in range(400):
        threshold = find_score_threshold(RNG.normal(size=count))
        shares.append((RNG.normal(size=1000) < threshold).mean())
    assert np.mean(shares) <= most + 0.0025  # the mean of 400 tries varies


def test_the_auroc_is_that_of_two_normal_distributions() -> None:
    """One standard deviation apart: the normal distribution's value at 1 / √2, 0.760."""
    own, others = RNG.normal(1, 1, 20_000), RNG.normal(0, 1, 20_000)
    assert compute_auroc(own, others) == pytest.approx(0.7602, abs=0.01)
    assert compute_auroc(np.ones(3), np.ones(4)) == 0.5


def test_the_score_that_notices_most_is_chosen_and_figures_are_kept_for_each_of_the_others() -> (
    None
):
    own = make_outputs(RNG.normal(10, 1, 1000))
    near, far = make_outputs(RNG.normal(9, 1, 300)), make_outputs(RNG.normal(2, 1, 300))
    found = measure_confidence(own, np.ones(1000, int), {"near": near, "far": far})["unfamiliar"]
    assert found["score"] == "largest_logit"  # the energy says the same, and the first is taken
    assert found["false_alarms"] == pytest.approx(0.01, abs=0.002)
    assert found["others"]["far"]["flagged"] == 1.0
    assert found["others"]["near"]["flagged"] < 0.2
    assert found["weak"]


def test_familiarity_is_chosen_where_logits_do_not_suffice() -> None:
    logits = make_outputs(RNG.normal(10, 1, 500))
    own = Outputs(logits.logits, logits.probabilities, RNG.normal(0, 1, 500).astype(np.float32))
    other = Outputs(logits.logits, logits.probabilities, RNG.normal(-9, 1, 500).astype(np.float32))
    found = measure_confidence(own, np.ones(500, int), {"others": other})["unfamiliar"]
    assert found["score"] == "familiarity"
    assert found["auroc"] == 1.0
    assert "weak" not in found


def test_too_few_pictures_set_no_threshold() -> None:
    outputs = make_outputs(RNG.normal(10, 1, 65))
    found = measure_confidence(outputs, np.ones(65, int), {})
    assert found["unfamiliar"]["threshold"] is None
    assert describe_confidence(found) == [
        "No answer is called unsure: 0 mistakes are too few to find a threshold.",
        "No picture is called unfamiliar: 65 held-out pictures are too few, 66 are needed.",
    ]
