"""Schedules, optimizers and losses do what their names say."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from training.config import Config
from training.fit.optimizers import (
    compute_focal_loss,
    compute_rate_factor,
    make_loss,
    make_optimizer,
)


def test_onecycle_rises_then_falls_to_almost_zero(quick: Config) -> None:
    """It starts at 1/25, reaches 1 after three tenths, and falls along a cosine."""
    rates = [compute_rate_factor(quick, done / 100) for done in range(101)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == pytest.approx(rates[30]) == pytest.approx(1)
    assert rates[100] < 1e-4


@pytest.mark.parametrize(
    ("schedule", "end"), [("constant", 1), ("step", 1e-3), ("cosine", 0), ("exponential", 0.01)]
)
def test_the_other_schedules_start_at_one_after_the_warmup(
    quick: Config, schedule: Any, end: float
) -> None:
    """The warm-up is a straight line to the full rate."""
    config = replace(quick, schedule=schedule, warmup=0.2)
    assert compute_rate_factor(config, 0.1) == pytest.approx(0.5)
    assert compute_rate_factor(config, 0.2) == pytest.approx(1)
    assert compute_rate_factor(config, 1) == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_every_optimizer_lowers_a_quadratic(quick: Config, name: Any) -> None:
    """A hundred steps move the point closer to the minimum."""
    x = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    config = replace(quick, optimizer=name, learning_rate=0.02)
    descent = make_optimizer(config, [{"params": [x]}])
    for _ in range(100):
        descent.zero_grad()
        x.grad = torch.autograd.grad((x**2).sum(), x)[0]
        descent.step()
    assert (x**2).sum() < 8


def test_class_weights_are_the_inverse_of_the_frequency(quick: Config) -> None:
    """With frequencies of nine to one, a rare picture counts nine times as much."""
    loss = make_loss(replace(quick, class_weights=True), torch.tensor([0.9, 0.1]))
    assert isinstance(loss, torch.nn.CrossEntropyLoss)
    assert loss.weight is not None
    assert float(loss.weight[1] / loss.weight[0]) == pytest.approx(9)


def test_focal_loss_weights_confident_pictures_less() -> None:
    """Its weight is (1 - p)^2 times the cross-entropy."""
    logits, label = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    p = logits.softmax(1)[0, 0]
    expected = (1 - p) ** 2 * F.cross_entropy(logits, label)
    assert compute_focal_loss(logits, label, None) == pytest.approx(float(expected))
