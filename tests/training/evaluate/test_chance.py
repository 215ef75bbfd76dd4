"""Near-chance metrics are a doubt, and clearly better ones are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.evaluate.chance import describe_accuracy, find_accuracy_doubts
from training.evaluate.metrics import compute_metrics
from training.report.explanations import format_verdict
from training.report.plots import format_metrics


def measure(answers: list[int], truth: list[int], labels: int) -> dict[str, Any]:
    """The metrics of these answers."""
    names = tuple(f"label {i}" for i in range(labels))
    return compute_metrics(np.eye(labels, dtype=np.float32)[answers], np.array(truth), names)


BALANCED = [0, 1, 2, 3] * 25
ONE_IN_TEN = [0] * 90 + [1] * 10


@pytest.mark.parametrize(
    ("answers", "truth", "labels"),
    [
        ([2] * 100, BALANCED, 4),  # never trained: always the same label
        ([*BALANCED[1:], BALANCED[0]], BALANCED, 4),  # always wrong
        ([0] * 100, ONE_IN_TEN, 2),  # right on 90 %, by the most frequent label
        ([0, 1, 1], [0, 1, 2], 3),  # two of three pictures may be luck
    ],
)
def test_answers_as_good_as_chance_are_a_doubt(
    answers: list[int], truth: list[int], labels: int
) -> None:
    [doubt] = find_accuracy_doubts(measure(answers, truth, labels))
    assert "not clearly more than chance" in doubt
    assert f"on {np.mean(np.equal(answers, truth)):.1%} of {len(truth)} pictures" in doubt


@pytest.mark.parametrize(
    ("answers", "truth", "labels"),
    [
        (BALANCED, BALANCED, 4),
        ([0, 1, 2], [0, 1, 2], 1_000),
        ([0] * 50 + BALANCED[50:], BALANCED, 4),
        ([0] * 70 + [1] * 30, ONE_IN_TEN, 2),  # less often right, but on both labels
    ],
)
def test_answers_that_are_clearly_better_raise_none(
    answers: list[int], truth: list[int], labels: int
) -> None:
    found = measure(answers, truth, labels)
    assert find_accuracy_doubts(found) == []
    assert "doubts" not in found


def test_a_tiny_gap_is_a_doubt_however_many_pictures_show_it() -> None:
    """The gap is many standard errors here."""
    truth = [0, 1] * 20_000
    answers = [0, 1] * 1_000 + [0] * 38_000  # right on 52.5 %
    [doubt] = find_accuracy_doubts(measure(answers, truth, 2))
    assert "52.5%" in doubt


def test_pictures_of_one_label_say_nothing() -> None:
    [doubt] = find_accuracy_doubts(measure([1] * 9, [1] * 9, 3))
    assert doubt == "all pictures show label 1, so accuracy says nothing"


def test_several_labels_per_picture_are_judged_by_their_roc_auc() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, (400, 3)).astype(np.float32)
    names = ("a", "b", "c")
    luck = compute_metrics(rng.random((400, 3), np.float32), truth, names)
    assert "ROC-AUC" in luck["doubts"][0]
    skill = compute_metrics(((truth + rng.random((400, 3))) / 3).astype(np.float32), truth, names)
    assert "doubts" not in skill
    none = compute_metrics(rng.random((4, 3), np.float32), np.ones((4, 3), np.float32), names)
    assert "not defined" in describe_accuracy(none)


def test_the_verdict_says_what_was_measured_and_what_was_not() -> None:
    chance = measure([2] * 100, BALANCED, 4)
    assert format_verdict(chance, {"doubts": ["the map is empty"]}) == (
        "Doubts: it is right on 25.0% of 100 pictures, which is not clearly more than chance: "
        "always answering the most frequent label gives 25.0%; the map is empty."
    )
    right = measure(BALANCED, BALANCED, 4)
    assert format_verdict(right, None) == (
        "No check of its accuracy raised a doubt. Not measured: its maps."
    )
    assert format_verdict(None, None) == "Not measured: its accuracy and its maps."


def test_the_report_lists_the_doubt(tmp_path: Path) -> None:
    page = "\n".join(format_metrics(tmp_path, measure([2] * 100, BALANCED, 4)))
    assert "- Doubt: it is right on 25.0% of 100 pictures" in page
