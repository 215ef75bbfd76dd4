"""Optimizers, the learning rate of each weight, and schedules, by name.

All are torch's. Knows nothing of data or losses.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.config import Config

Tensors = tuple[torch.Tensor, ...] | list[torch.Tensor]

SCHEDULES: dict[str, Callable[[Optimizer, int], LRScheduler]] = {  # over so many steps
    "constant": lambda optimizer, _: lr_scheduler.ConstantLR(optimizer, 1.0),
    "step": lambda optimizer, steps: lr_scheduler.MultiStepLR(
        optimizer, [math.ceil(steps / 3), math.ceil(2 * steps / 3)]
    ),
    "cosine": lambda optimizer, steps: lr_scheduler.CosineAnnealingLR(optimizer, steps),
    "exponential": lambda optimizer, steps: lr_scheduler.ExponentialLR(
        optimizer, 0.01 ** (1 / steps)
    ),
}
FIRST_FACTOR = 1e-3  # of the learning rate, in the first step of a warm-up


def make_optimizer(config: Config, groups: Iterable[dict[str, Any]]) -> Optimizer:
    """The config's optimizer over parameter groups."""
    rate, decay = config.learning_rate, config.weight_decay
    momentum = config.momentum
    match config.optimizer:
        case "adam":
            return torch.optim.Adam(groups, rate, weight_decay=decay)
        case "adamw":
            return torch.optim.AdamW(groups, rate, weight_decay=decay)
        case "sgd":
            return torch.optim.SGD(
                groups, rate, momentum, weight_decay=decay, nesterov=momentum > 0
            )
        case "rmsprop":
            return torch.optim.RMSprop(groups, rate, momentum=momentum, weight_decay=decay)


def group_parameters(
    config: Config, network: nn.Module, head: set[str]
) -> Iterator[dict[str, Any]]:
    """Groups of parameters with one learning rate and weight decay each, the head's first.

    The body has `body_rate` times the head's rate, and `layer_decay` times that for each stage
    below the head. Norms and biases are those with a single axis.
    """
    everywhere = not config.weights if config.norm_decay is None else config.norm_decay
    depths = number_stages(network)
    top = max((depth for name, depth in depths.items() if name not in head), default=0) + 1
    groups = defaultdict(list)
    for name, weight in network.named_parameters():
        rate, decay = config.learning_rate, config.weight_decay
        if name not in head:
            rate *= config.body_rate * config.layer_decay ** (top - depths[name])
        if weight.ndim < 2 and not everywhere:
            decay = 0.0
        groups[name not in head, rate, decay].append(weight)
    for (_, rate, decay), weights in sorted(groups.items(), key=lambda item: item[0][0]):
        yield {"params": weights, "lr": rate, "weight_decay": decay}


def number_stages(network: nn.Module) -> dict[str, int]:
    """The depth of each parameter's stage, counted from the input, in the order of the modules.

    A container, and a module with most of the weights, is taken apart. Each other module is a
    stage. One without a matrix, such as a norm, belongs to the stage before it.
    """
    total = sum(weight.numel() for weight in network.parameters())
    stages: list[nn.Module] = []

    def collect(module: nn.Module) -> None:
        size = sum(weight.numel() for weight in module.parameters())
        container = isinstance(module, nn.Sequential | nn.ModuleList)
        children = list(module.children())
        if children and (container or 2 * size > total):
            for child in children:
                collect(child)
        elif size:
            stages.append(module)

    collect(network)
    depths: dict[int, int] = {}
    depth = -1
    for stage in stages:
        weights = list(stage.parameters())
        depth += any(weight.ndim > 1 for weight in weights)
        depths |= {id(weight): max(depth, 0) for weight in weights if id(weight) not in depths}
    # What a module that is taken apart has itself, such as an embedding, is at the input.
    return {name: depths.get(id(weight), 0) for name, weight in network.named_parameters()}


def make_schedule(
    name: str, warmup: float, optimizer: Optimizer, steps: int, done: int = 0
) -> LRScheduler:
    """The named schedule over so many steps, of which the share `warmup` rises to the full rate.

    The steps that are done are taken again, so the rates of a resumed run are the same to the bit.
    """
    # Steps that fp16 skips look to torch like a schedule that is ahead of its optimizer.
    warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
    warm = round(warmup * steps)
    schedule: LRScheduler
    if name == "onecycle":  # from 1/25 up to 1, then down to almost 0, along cosines
        schedule = lr_scheduler.OneCycleLR(
            optimizer,
            [group["lr"] for group in optimizer.param_groups],
            total_steps=steps + 1,  # the rate after the last step is the lowest
            pct_start=min((warmup or 0.3) * (1 + 1e-9), 1.0),  # a rise of 0 steps divides by 0
            cycle_momentum=False,
            final_div_factor=4000,
        )
    elif warm:
        rise = lr_scheduler.LinearLR(optimizer, FIRST_FACTOR, total_iters=warm)
        rest = SCHEDULES[name](optimizer, max(steps - warm, 1))
        schedule = lr_scheduler.SequentialLR(optimizer, [rise, rest], [warm])
    else:
        schedule = SCHEDULES[name](optimizer, steps)
    for _ in range(done):
        schedule.step()
    return schedule


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """A moving average of the weights and of the statistics of norms.

    It follows the weights closely at first, so that a short run does not keep those it began with.
    """

    def update(kept: Tensors, now: Tensors, _: object) -> None:
        steps = int(average.n_averaged)
        now_decay = min(decay, (1 + steps) / (10 + steps))
        get_ema_multi_avg_fn(now_decay)(kept, now, steps)  # type: ignore[no-untyped-call]

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average
