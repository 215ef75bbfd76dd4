"""Schedules, optimizers and losses do what their names say."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from training.config import Config
from training.fit.losses import compute_focal_loss, make_loss
from training.fit.optimizers import (
    SCHEDULES,
    group_parameters,
    make_average,
    make_optimizer,
    make_schedule,
    number_stages,
)
from training.imaging.preprocessing import Input
from training.networks.classifier import build_classifier


def list_rates(name: str, warmup: float = 0.0, steps: int = 100, done: int = 0) -> list[float]:
    """The learning rate of each step, and after the last one, if the full rate is 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    schedule = make_schedule(name, warmup, optimizer, steps, done)
    rates = [optimizer.param_groups[0]["lr"]]
    for _ in range(done, steps):
        schedule.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


def test_onecycle_rises_then_falls_to_almost_zero() -> None:
    """It starts at 1/25, reaches 1 after three tenths, and falls along a cosine."""
    rates = list_rates("onecycle")
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == pytest.approx(rates[29], rel=1e-3) == pytest.approx(1, rel=1e-3)
    assert rates[100] < 1e-4


@pytest.mark.parametrize(
    ("schedule", "end"), [("constant", 1), ("step", 1e-2), ("cosine", 0), ("exponential", 0.01)]
)
def test_the_other_schedules_start_at_one_after_the_warmup(schedule: str, end: float) -> None:
    """The warm-up is a straight line to the full rate."""
    rates = list_rates(schedule, warmup=0.2)
    assert rates[10] == pytest.approx(0.5, abs=1e-3)
    assert rates[20] == pytest.approx(1)
    assert rates[100] == pytest.approx(end, abs=1e-9)


@pytest.mark.parametrize("schedule", ["onecycle", *SCHEDULES])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (2, 0.9), (10, 1 / 11), (3, 0.1)])
def test_short_runs_have_a_schedule_too(schedule: str, steps: int, warmup: float) -> None:
    """The rate of no step is 0 or above 1, however few there are."""
    assert all(1e-4 < rate <= 1 + 1e-9 for rate in list_rates(schedule, warmup, steps)[:-1])


@pytest.mark.parametrize("schedule", ["onecycle", *SCHEDULES])
def test_a_schedule_continues_to_the_bit(schedule: str) -> None:
    """The rates after the steps that are done are those of a run without a break."""
    assert list_rates(schedule, 0.2, done=37) == list_rates(schedule, 0.2)[37:]


def test_fine_tuning_decays_no_norms_and_biases(quick: Config) -> None:
    """`norm_decay` decides. Without it, only networks that start from weights leave them alone."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    config = replace(quick, weight_decay=0.1)
    for changes, decayed in (
        ({}, {1, 2, 4}),
        ({"weights": "w.npz"}, {2, 4}),
        ({"weights": "w.npz", "norm_decay": True}, {1, 2, 4}),
        ({"norm_decay": False}, {2, 4}),
    ):
        groups = group_parameters(replace(config, **changes), network, {"3.weight", "3.bias"})
        found = {
            weight.ndim for group in groups if group["weight_decay"] for weight in group["params"]
        }
        assert found == decayed


def test_layer_decay_lowers_the_rate_at_each_stage(quick: Config) -> None:
    """A ResNet's blocks are stages. The stem is the lowest, and norms go with what they follow."""
    network = build_classifier("resnet18", 2, Input("RGB", 64, 64, 64), {}).network
    config = replace(quick, learning_rate=1.0, body_rate=0.5, layer_decay=0.8)
    names = {id(weight): name for name, weight in network.named_parameters()}
    rates = {
        names[id(weight)]: group["lr"]
        for group in group_parameters(config, network, {"fc.weight", "fc.bias"})
        for weight in group["params"]
    }
    assert rates["fc.weight"] == 1
    assert rates["layer4.1.conv2.weight"] == pytest.approx(0.5 * 0.8)
    assert rates["layer4.0.downsample.0.weight"] == pytest.approx(0.5 * 0.8**2)
    assert rates["conv1.weight"] == rates["bn1.bias"] == pytest.approx(0.5 * 0.8**9)


def test_a_trunk_is_taken_apart_into_stages() -> None:
    """The blocks of a transformer are stages, also inside of one module that has them all."""
    depths = number_stages(build_classifier("vit_b_16", 2, Input(), {}).network)
    blocks = [depths[f"encoder.layers.encoder_layer_{i}.mlp.0.weight"] for i in range(12)]
    assert blocks == list(range(1, 13))
    assert depths["class_token"] == depths["conv_proj.weight"] == 0
    assert depths["encoder.ln.weight"] == 12
    assert depths["heads.head.weight"] == 13


def test_an_average_follows_closely_at_first() -> None:
    """Later its decay is the given one. Statistics of norms are averaged like weights."""
    network = nn.BatchNorm2d(1)
    average = make_average(network, 0.9)
    expected = torch.zeros(())
    for step in range(200):
        value = torch.tensor(float(step))
        nn.init.constant_(network.weight, step)
        assert network.running_mean is not None
        network.running_mean.fill_(step)
        average.update_parameters(network)
        decay = 0.0 if step == 0 else min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    kept = average.module
    assert isinstance(kept, nn.BatchNorm2d)
    assert kept.running_mean is not None
    assert kept.weight.item() == pytest.approx(expected.item(), rel=1e-4)
    assert kept.running_mean.item() == pytest.approx(expected.item(), rel=1e-4)
    assert 189 < expected.item() < 191


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
    assert compute_focal_loss(logits, label, None) == pytest.approx(expected.item())
