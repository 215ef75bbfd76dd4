"""When an answer should be doubted: thresholds, and what they do on held-out pictures.

`low_confidence` is selective classification (El-Yaniv and Wiener 2010): answers below a probability
come with a warning, so that the others are right more often. `unfamiliar` compares a score of the
picture with those of held-out pictures. Each threshold is taken from all held-out pictures; what it
does is measured by cross-fitting, with thresholds that have not seen the picture. Knows nothing of
networks or graphs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ERROR_SHARE = 0.5  # of the model's error, for the answers without a warning
FALSE_ALARMS = 0.01  # share of the held-out pictures that are called unfamiliar
MIN_PICTURES = 66  # the least score of n pictures gives 1 / (n + 1) false alarms: 1.5 %
MIN_MISTAKES = 10  # fewer determine no threshold
MIN_KEPT = 10  # answers without a warning
WEAK = 0.6  # a score that flags less of the other pictures is called weak
FOLDS = 10
CURVE_POINTS = 40
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Outputs:
    """A graph's answers to N pictures."""

    logits: NDArray[np.float32]  # (N, K)
    probabilities: NDArray[np.float32]  # (N, K)
    familiarity: NDArray[np.float32] | None = None  # (N,)

    def __len__(self) -> int:
        return len(self.logits)


def measure_confidence(
    held_out: Outputs, labels: NDArray[Any], others: Mapping[str, Outputs]
) -> dict[str, Any]:
    """The card's `confidence`, from held-out pictures and from pictures unlike the model's."""
    p = held_out.probabilities.astype(np.float64)
    if labels.ndim == 2:
        found = measure_label_thresholds(p, labels > 0)
    else:
        found = measure_selection(p.max(1), p.argmax(1) != labels)
    return {**found, "pictures": len(held_out), "unfamiliar": measure_scores(held_out, others)}


def measure_selection(top: Values, wrong: NDArray[np.bool_]) -> dict[str, Any]:
    """Threshold, coverage and errors of the top-1's probabilities (N,), and their curve.

    `coverage` is the share of the answers without a warning, `error` the share of these that is
    wrong, `error_of_all` that of all answers.
    """
    mistakes = int(wrong.sum())
    figures: dict[str, Any] = {"error_of_all": round_share(wrong.mean()), "mistakes": mistakes}
    threshold = find_threshold(top, wrong)
    if threshold is None:
        reason = "no threshold halves the error"
        if mistakes < MIN_MISTAKES:
            reason = f"{mistakes} mistakes are too few to find a threshold"
        return {"threshold": None, "coverage": None, "reason": reason, **figures}
    kept = cross_fit(len(top), lambda rows: find_threshold(top[rows], wrong[rows]), top)
    return {
        "threshold": threshold,
        "coverage": round_share(kept.mean()),
        "error": round_share(wrong[kept].mean() if kept.any() else 0),
        **figures,
        "curve": sample_curve(top, wrong),
    }


def find_threshold(top: Values, wrong: NDArray[np.bool_]) -> float | None:
    """The least probability at or above which the error is half of the error of all answers.

    None if there are too few mistakes, or if no threshold does that.
    """
    if wrong.sum() < MIN_MISTAKES:
        return None
    order = np.argsort(-top, kind="stable")
    kept, risk = compute_risks(wrong[order])
    ends = np.append(np.diff(top[order]) < 0, True)  # equal probabilities are kept together
    good = np.flatnonzero(ends & (risk <= ERROR_SHARE * wrong.mean()) & (kept >= MIN_KEPT))
    return round_down(top[order][good[-1]]) if len(good) else None


def compute_risks(wrong: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Values]:
    """How many answers are kept, and their error, if the first 1 … N (the surest) are kept."""
    kept = np.arange(1, len(wrong) + 1)
    return kept, np.cumsum(wrong) / kept


def sample_curve(top: Values, wrong: NDArray[np.bool_]) -> list[list[float]]:
    """The risk-coverage curve, as pairs of coverage and error. Half of its points are mistakes."""
    ordered = wrong[np.argsort(-top, kind="stable")]
    kept, risk = compute_risks(ordered)
    rows = np.union1d(pick_evenly(kept - 1), pick_evenly(np.flatnonzero(ordered)))
    return [[round_share(kept[i] / len(kept)), round_share(risk[i])] for i in rows]


def pick_evenly(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most 20 of the values, among them the last."""
    count = min(CURVE_POINTS // 2, len(values))
    rows = np.linspace(0, len(values) - 1, count + 1).astype(int)[1:]
    return np.asarray(values[rows])


def measure_label_thresholds(p: Values, marks: NDArray[np.bool_]) -> dict[str, Any]:
    """A threshold for each label of probabilities (N, K), and the coverage."""
    kept = np.zeros(len(p), bool)
    for fold in range(FOLDS):
        own = np.arange(len(p)) % FOLDS == fold
        if own.any() and not own.all():
            kept[own] = (p[own] >= find_label_thresholds(p[~own], marks[~own])).any(1)
    return {
        "threshold": find_label_thresholds(p, marks),
        "coverage": round_share(kept.mean()),
    }


def find_label_thresholds(p: Values, marks: NDArray[np.bool_]) -> list[float]:
    """For each label the probability with the largest F1 score; 0.5 if no picture shows it."""
    found = []
    for own, truth in zip(p.T, marks.T, strict=True):
        order = np.argsort(-own, kind="stable")
        hits = np.cumsum(truth[order])
        f1 = 2 * hits / (np.arange(1, len(own) + 1) + truth.sum())
        found.append(round_down(own[order][f1.argmax()]) if truth.any() else 0.5)
    return found


def compute_scores(outputs: Outputs) -> dict[str, Values]:
    """The scores (N,) of how familiar each picture is, by their names in the card."""
    top = outputs.logits.argmax(1)[:, None]
    largest = np.take_along_axis(outputs.logits, top, 1)[:, 0].astype(np.float64)
    p = np.take_along_axis(outputs.probabilities, top, 1)[:, 0].astype(np.float64)
    scores = {"largest_logit": largest, "energy": largest - np.log(p.clip(1e-38))}
    if outputs.familiarity is not None:
        scores["familiarity"] = outputs.familiarity.astype(np.float64)
    return scores


def measure_scores(held_out: Outputs, others: Mapping[str, Outputs]) -> dict[str, Any]:
    """The card's `unfamiliar`: the score that flags most of the other pictures.

    Each of the others counts the same, however many pictures it has.
    """
    if len(held_out) < MIN_PICTURES:
        reason = f"{len(held_out)} held-out pictures are too few, {MIN_PICTURES} are needed"
        return {"score": "largest_logit", "threshold": None, "reason": reason}
    own = compute_scores(held_out)
    foreign = {name: compute_scores(outputs) for name, outputs in others.items()}
    measured = {
        score: measure_score(values, {name: scores[score] for name, scores in foreign.items()})
        for score, values in own.items()
    }
    best = max(measured, key=lambda score: measured[score]["flagged"])  # the first of equals
    chosen = {"score": best, **measured[best]}
    if chosen["flagged"] < WEAK:
        chosen["weak"] = True
    return chosen


def measure_score(own: Values, others: Mapping[str, Values]) -> dict[str, Any]:
    """The threshold of a score, its false alarms, and what it does on other pictures."""
    threshold = find_score_threshold(own)
    kept = cross_fit(len(own), lambda rows: find_score_threshold(own[rows]), own)
    each = {
        name: {
            "pictures": len(scores),
            "auroc": round_share(compute_auroc(own, scores)),
            "flagged": round_share((scores < threshold).mean()),
        }
        for name, scores in others.items()
    }
    return {
        "threshold": threshold,
        "false_alarms": round_share(1 - kept.mean()),
        "auroc": round_share(float(np.mean([found["auroc"] for found in each.values()]))),
        "flagged": round_share(float(np.mean([found["flagged"] for found in each.values()]))),
        "others": each,
    }


def find_score_threshold(scores: Values) -> float:
    """The score that a new held-out picture misses with a probability of at most 1 %.

    It is the k-th smallest of n, which a new picture misses with probability k / (n + 1), as in
    conformal prediction. With fewer than 99 pictures k is 1, and the probability is larger.
    """
    rank = max(int(FALSE_ALARMS * (len(scores) + 1)), 1)
    return round_down(np.sort(scores)[rank - 1])


def compute_auroc(own: Values, others: Values) -> float:
    """The probability that an own picture has a larger score than another; ties count half."""
    ordered = np.sort(own)
    below = np.searchsorted(ordered, others, "left") + np.searchsorted(ordered, others, "right")
    return float(1 - below.mean() / (2 * len(own)))


def cross_fit(
    count: int, find: Callable[[NDArray[np.intp]], float | None], values: Values
) -> NDArray[np.bool_]:
    """Whether each value reaches a threshold found on the other folds: (N,). None keeps all."""
    rows, kept = np.arange(count), np.ones(count, bool)
    for fold in range(FOLDS):
        own = rows % FOLDS == fold
        if own.any() and not own.all():
            threshold = find(np.flatnonzero(~own))
            if threshold is not None:
                kept[own] = values[own] >= threshold
    return kept


def round_down(value: float) -> float:
    """Six significant digits, not above the value: rounding must not exclude the value itself."""
    rounded = float(f"{value:.6g}")
    return rounded if rounded <= value else float(f"{value - abs(value) * 1e-6:.6g}")


def round_share(value: float) -> float:
    """A share with five decimals, for JSON."""
    return round(float(value), 5)


def describe_confidence(found: Mapping[str, Any]) -> list[str]:
    """The card's `confidence` in sentences."""
    sentences = []
    if found["threshold"] is None:
        sentences.append(f"No answer is called unsure: {found['reason']}.")
    elif isinstance(found["threshold"], list):
        sentences.append(
            f"In {found['coverage']:.1%} of {found['pictures']:,} held-out pictures a label "
            "reaches its threshold. The others come with a warning."
        )
    else:
        sentences.append(
            f"Answers with a probability under {found['threshold']:.4g} come with a warning. The "
            f"others are {found['coverage']:.1%} of {found['pictures']:,} held-out pictures, with "
            f"an error of {found['error']:.2%} in place of {found['error_of_all']:.2%}."
        )
    return [*sentences, describe_unfamiliar(found["unfamiliar"])]


def describe_unfamiliar(found: Mapping[str, Any]) -> str:
    """The card's `unfamiliar` in a sentence."""
    if found["threshold"] is None:
        return f"No picture is called unfamiliar: {found['reason']}."
    return (
        f"Pictures whose {found['score'].replace('_', ' ')} is under {found['threshold']:.4g} are "
        f"called unfamiliar: {found['false_alarms']:.2%} of the held-out pictures, and "
        f"{found['flagged']:.0%} of {', '.join(found['others'])} (ROC-AUC {found['auroc']:.3f})"
        + (". That is weak." if found.get("weak") else ".")
    )
