"""How much work an answer of `/v2` is, counted before it is written."""

import numpy as np

from service.api.v2.endpoints import MAX_INLINE_VALUES
from service.api.v2.schemas import OutputParameters, WantedOutput
from service.api.v2.signature import count_values, format_classes
from service.runtime.row import Answer

LABELS = 1000
SCORES = np.linspace(1, 0, LABELS, dtype=np.float32)
ANSWER = Answer(SCORES, SCORES, np.zeros((1, 7, 7), np.float32), 0.0, 0.0, 0.0, 1)


def want(*names: str, classes: int = 0) -> list[WantedOutput]:
    parameters = OutputParameters(classification=classes)
    return [WantedOutput(name=name, parameters=parameters) for name in names]


def test_only_the_wanted_outputs_count() -> None:
    assert count_values(want("logits"), [ANSWER] * 3) == 3 * LABELS
    assert count_values(want("logits", "cam"), [ANSWER]) == LABELS + 49


def test_classes_count_more_than_numbers_and_for_each_output() -> None:
    one = count_values(want("logits", classes=LABELS), [ANSWER])
    assert one >= 5 * LABELS
    both = want("logits", "probabilities", classes=2**31 - 1)
    assert count_values(both, [ANSWER]) == 2 * one
    assert count_values(both, [ANSWER] * 8) > MAX_INLINE_VALUES
    assert count_values(want("logits", classes=5), [ANSWER]) < 2 * LABELS


def test_classes_are_written_by_falling_value() -> None:
    labels = [f"label {index}" for index in range(LABELS)]
    assert format_classes(SCORES[::-1], 2, labels) == [
        "1.000000:999:label 999",
        "0.998999:998:label 998",
    ]
