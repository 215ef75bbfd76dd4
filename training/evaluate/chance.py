"""Whether a network is clearly right more often than by chance. Knows only its metrics.

Chance is to answer always the same label, or any label with the same probability. For several
labels per picture, it is any order of the pictures.
"""

import math
from typing import Any, NamedTuple

STANDARD_ERRORS = 2
MIN_SKILL = 0.1  # share of the errors of chance that a network must avoid


class Figure(NamedTuple):
    """A figure of a network, the same figure by chance, and the standard error of the latter."""

    value: float
    chance: float
    error: float

    @property
    def is_clearly_better(self) -> bool:
        """Whether the gap is neither an accident of these pictures nor very small."""
        gap = self.value - self.chance
        return gap >= STANDARD_ERRORS * self.error and gap > MIN_SKILL * (1 - self.chance)


def find_accuracy_doubts(metrics: dict[str, Any]) -> list[str]:
    """Whether the metrics could be those of chance, in one sentence without a full stop."""
    if "accuracy" not in metrics:
        return find_multilabel_doubts(metrics)
    if len(metrics["per_class"]) == 1:
        return [f"all pictures show {next(iter(metrics['per_class']))}, so accuracy says nothing"]
    accuracy, balanced = measure_accuracy(metrics), measure_balanced_accuracy(metrics)
    if accuracy.is_clearly_better or balanced.is_clearly_better:
        return []
    return [
        f"it is right on {accuracy.value:.1%} of {metrics['pictures']:,} pictures, which is not "
        f"clearly more than chance: always answering the most frequent label gives "
        f"{accuracy.chance:.1%}"
    ]


def find_multilabel_doubts(metrics: dict[str, Any]) -> list[str]:
    """The same for several labels per picture, by the mean ROC-AUC."""
    found = measure_roc_auc(metrics)
    if found is None or found.is_clearly_better:
        return []
    return [
        f"the mean ROC-AUC of its labels on {metrics['pictures']:,} pictures is {found.value:.3f}, "
        f"which is not clearly more than chance: {found.chance}"
    ]


def describe_accuracy(metrics: dict[str, Any]) -> str:
    """How often the network is right, and how often chance would be, in one line."""
    pictures = f"on {metrics['pictures']:,} pictures"
    if "accuracy" in metrics:
        found = measure_accuracy(metrics)
        return (
            f"accuracy {found.value:.2%} {pictures}; always the most frequent label: "
            f"{found.chance:.2%}"
        )
    auc = measure_roc_auc(metrics)
    value = "not defined" if auc is None else f"{auc.value:.3f}"
    return f"mean ROC-AUC of the labels {value} {pictures}; chance: 0.5"


def measure_accuracy(metrics: dict[str, Any]) -> Figure:
    """Accuracy against always answering the most frequent label."""
    pictures = metrics["pictures"]
    chance = max(label["pictures"] for label in metrics["per_class"].values()) / pictures
    return Figure(metrics["accuracy"], chance, math.sqrt(chance * (1 - chance) / pictures))


def measure_balanced_accuracy(metrics: dict[str, Any]) -> Figure:
    """The mean recall of the labels that have pictures, against any label with probability 1/K."""
    counts = [label["pictures"] for label in metrics["per_class"].values()]
    chance = 1 / len(counts)
    spread = math.sqrt(sum(chance * (1 - chance) / count for count in counts))
    return Figure(metrics["balanced_accuracy"], chance, spread / len(counts))


def measure_roc_auc(metrics: dict[str, Any]) -> Figure | None:
    """The mean ROC-AUC of the labels against 0.5, or None where no label has one.

    The error is the labels' mean (Hanley and McNeil 1982, for two equal distributions). That is
    the largest possible one, because labels may depend on each other.
    """
    if metrics["macro_roc_auc"] is None:
        return None
    pictures = metrics["pictures"]
    counts = [
        label["pictures"] for label in metrics["per_class"].values() if label["roc_auc"] is not None
    ]
    errors = [math.sqrt((pictures + 1) / (12 * n * (pictures - n))) for n in counts]
    return Figure(metrics["macro_roc_auc"], 0.5, sum(errors) / len(errors))
