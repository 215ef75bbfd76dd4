"""One temperature that makes probabilities mean what they say (Guo et al. 2017, section 4.2).

Logits are divided by it before softmax, or sigmoid; logits and maps themselves stay as they are.
Knows nothing of networks or graphs.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from training.evaluate.metrics import compute_calibration_error
from training.networks.classifier import compute_probabilities


def find_temperature(logits: NDArray[Any], labels: NDArray[Any]) -> float:
    """The temperature of least negative log-likelihood, in 0.05..20.

    Takes logits (N, K), and labels (N,) of classes or (N, K) of 0 and 1 for several labels.
    """
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
    """The card's `calibration` in a sentence."""
    said = f"temperature {figures['temperature']:.3g}, fitted on {figures['fitted_on']:,} pictures"
    if "after" not in figures:
        return said
    before, after = figures["before"], figures["after"]
    changes = (
        f"{name.replace('_', ' ')} {before[name]:.4f} to {after[name]:.4f}" for name in before
    )
    return f"{said}; on {figures['measured_on']:,} others: {', '.join(changes)}"


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
    told: dict[str, dict[str, float | None]] = {}
    for when, t in (("before", 1.0), ("after", temperature)):
        z = torch.from_numpy(logits)
        p = compute_probabilities(z, labels.ndim == 2, t)
        told[when] = {
            "calibration_error": compute_calibration_error(p, y),
            "negative_log_likelihood": round(float(compute_log_loss(z.double() / t, y)), 5),
        }
    return told
