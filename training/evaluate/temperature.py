"""Temperature scaling, which calibrates probabilities (Guo et al. 2017, section 4.2).

Softmax or sigmoid get the logits divided by the temperature. The logits and maps that a model
returns do not change. Knows nothing of graphs.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from training.evaluate.metrics import compute_calibration_error
from training.networks.classifier import compute_probabilities

UNFITTED = "every answer is right, so the likelihood has no maximum"


def find_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float | None:
    """The temperature in 0.05..20 with the smallest negative log-likelihood.

    Takes logits (N, K) and labels: classes (N,), or 0 and 1 (N, K) if multilabel. None if every
    answer is right: the smaller the temperature, the larger the likelihood.
    """
    right = (logits > 0) == (labels > 0) if labels.ndim == 2 else logits.argmax(1) == labels
    if right.all():
        return None
    z, y = torch.from_numpy(logits).double(), torch.from_numpy(labels)
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)  # log of 1 / T
    optimizer = torch.optim.LBFGS([slope], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = compute_log_loss(z * slope.exp(), y)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return round(float(torch.exp(-slope.detach()).clamp(0.05, 20)), 4)


def describe_calibration(figures: dict[str, Any]) -> str:
    """The card's `calibration` in one line."""
    if "reason" in figures:
        return (
            f"no temperature was fitted on {figures['fitted_on']:,} pictures: {figures['reason']}"
        )
    sentence = (
        f"temperature {figures['temperature']:.3g}, fitted on {figures['fitted_on']:,} pictures"
    )
    if "after" not in figures:
        return sentence
    before, after = figures["before"], figures["after"]
    changes = (
        f"{name.replace('_', ' ')} {before[name]:.4f} to {after[name]:.4f}" for name in before
    )
    return f"{sentence}; on {figures['measured_on']:,} others: {', '.join(changes)}"


def compute_log_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean negative log-likelihood."""
    if labels.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return F.cross_entropy(logits, labels)


def compare_calibration(
    logits: NDArray[np.float32], labels: NDArray[Any], temperature: float
) -> dict[str, dict[str, float | None]]:
    """Calibration error and negative log-likelihood on held-out pictures, before and after."""
    y = torch.from_numpy(labels)
    comparison: dict[str, dict[str, float | None]] = {}
    for when, t in (("before", 1.0), ("after", temperature)):
        z = torch.from_numpy(logits)
        p = compute_probabilities(z, labels.ndim == 2, t)
        comparison[when] = {
            "calibration_error": compute_calibration_error(p, y),
            "negative_log_likelihood": round(float(compute_log_loss(z.double() / t, y)), 5),
        }
    return comparison
