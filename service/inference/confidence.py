"""Judges a row: which warnings come with its answer, by the thresholds in the model's card.

Knows the outputs of one row and the card. How the thresholds are measured is the exporter's part.
"""

from math import log

from service.artifact.card import Card, Unfamiliar
from service.repository.model import Model
from service.runtime.row import Answer
from service.schemas import AnswerWarning
from service.telemetry.metrics import get_warning_counter

TINY = 1e-38  # the logarithm of 0 is not a number
UNFAMILIAR: AnswerWarning = {
    "code": "unfamiliar",
    "message": "The picture is unlike those that the model knows.",
}
NO_LABEL: AnswerWarning = {
    "code": "low_confidence",
    "message": "The model is not sure: no label reaches its threshold.",
}


def warn(answer: Answer, top: int, model: Model) -> list[AnswerWarning]:
    """The warnings for one row, whose top-1 is `top`. They are counted. Empty if there are none.

    A card without thresholds gives no warnings.
    """
    card = model.artifact.card
    if card.confidence is None:
        return []
    warnings = find_warnings(answer, top, card)
    for warning in warnings:
        get_warning_counter(model.name, warning["code"]).inc()
    return warnings


def find_warnings(answer: Answer, top: int, card: Card) -> list[AnswerWarning]:
    """The warnings for one row, by the thresholds of a card that has them."""
    confidence = card.confidence
    assert confidence
    warnings: list[AnswerWarning] = []
    threshold, unfamiliar = confidence.threshold, confidence.unfamiliar
    if isinstance(threshold, list):
        if (answer.probabilities < threshold).all():
            warnings.append(NO_LABEL)
    elif threshold is not None and (probability := float(answer.probabilities[top])) < threshold:
        warnings.append(describe_low_confidence(probability, threshold))
    if unfamiliar and is_unfamiliar(answer, top, unfamiliar):
        warnings.append(UNFAMILIAR)
    return warnings


def describe_low_confidence(probability: float, threshold: float) -> AnswerWarning:
    """The warning that a probability is below its threshold."""
    return {
        "code": "low_confidence",
        "message": f"The model is not sure: the probability of its answer is "
        f"{100 * probability:.2f} %, below the threshold of {100 * threshold:.2f} %.",
    }


def is_unfamiliar(answer: Answer, top: int, unfamiliar: Unfamiliar) -> bool:
    """Whether the score that the card names is below its threshold."""
    if unfamiliar.threshold is None:
        return False
    if unfamiliar.score == "familiarity":
        assert answer.familiarity is not None
        return float(answer.familiarity) < unfamiliar.threshold
    score = float(answer.logits[top])
    if unfamiliar.score == "energy":
        score -= log(max(float(answer.probabilities[top]), TINY))
    return score < unfamiliar.threshold
