"""A network and what changes its weights: loss, optimizer, schedule, scaler and moving average.

Knows nothing of epochs, data sets or files.
"""

import gc
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from training.config import Config
from training.fit.distributed import distribute, hold_gradients
from training.fit.loaders import Batch
from training.fit.losses import LossFunction
from training.fit.optimizers import (
    group_parameters,
    make_average,
    make_optimizer,
    make_schedule,
)
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Learner:
    """A network in training, whose epochs have `batches` each."""

    def __init__(
        self,
        config: Config,
        model: Classifier,
        head: set[str],  # names of the parameters of the new head
        loss: LossFunction,
        device: torch.device,
        batches: int,
    ) -> None:
        self.config, self.model, self.loss, self.device = config, model, loss, device
        self.steps = math.ceil(batches / config.accumulate)  # in an epoch
        self.average = make_average(model, config.average) if config.average else None
        self.kept = get_network(self.average) if self.average else model  # what is validated
        self.body = [p for name, p in model.network.named_parameters() if name not in head]
        self.optimizer = make_optimizer(config, group_parameters(config, model.network, head))
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        self.begin_phase(0)

    def begin_phase(self, epochs_done: int) -> None:
        """Freeze or unfreeze the body, and begin the schedule of the epochs until that changes.

        A head that learns alone has its full rate throughout. The config's schedule begins when
        everything learns.
        """
        config = self.config
        self.thawed = min(config.freeze_epochs, config.epochs)  # epochs before the body learns
        self.frozen = epochs_done < self.thawed
        for weight in self.body:
            weight.requires_grad_(not self.frozen)
        self.wrap_network()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = group["initial_lr"] = rate
        first, last = (0, self.thawed) if self.frozen else (self.thawed, config.epochs)
        name, warmup = ("constant", 0.0) if self.frozen else (config.schedule, config.warmup)
        total, done = max(last - first, 1) * self.steps, (epochs_done - first) * self.steps
        self.schedule = make_schedule(name, warmup, self.optimizer, total, done)

    def wrap_network(self) -> None:
        """Let `forward` average gradients over the processes, and be compiled."""
        self.forward: Callable[[torch.Tensor], torch.Tensor] = self.model
        gc.collect()  # an earlier wrapper would go on listening to the weights
        wanted = self.config.input
        pictures = generate_images(2, wanted.height, wanted.width, wanted.channels)
        self.forward = distribute(self.model.train(), torch.from_numpy(pictures).to(self.device))
        if self.config.compile:
            torch.compiler.set_stance("default")  # a network of your own has forbidden it
            self.forward = torch.compile(self.forward)

    def begin_epoch(self, epochs_done: int) -> None:
        """Set the network up for training. Frozen batch-norms keep their statistics."""
        if self.frozen and epochs_done >= self.thawed:
            self.begin_phase(epochs_done)
        self.model.train()
        if self.frozen:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def train_step(self, batches: list[Batch]) -> torch.Tensor:
        """One step of the optimizer on the gradients of some batches; returns their mean loss."""
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for at, (image, label) in enumerate(batches, 1):
            with hold_gradients(self.forward, at < len(batches)):
                loss = self.compute_loss(image.to(self.device), label.to(self.device))
                self.scaler.scale(loss / len(batches)).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() / len(batches)
        if self.config.clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        if self.average:
            self.average.update_parameters(self.model)
        return total

    def compute_loss(self, image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """The loss of one batch."""
        config = self.config
        with self.autocast():
            loss = self.loss(self.forward(image).float(), label)
        if config.l1:
            loss = loss + config.l1 * sum(p.abs().sum() for p in self.model.parameters())
        return loss

    def autocast(self) -> torch.autocast:
        """The precision of a forward pass, as a context."""
        kind = PRECISIONS.get(self.config.precision)
        return torch.autocast(self.device.type, kind, enabled=kind is not None)

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs. The schedule follows from the epochs that are done."""
        return {
            "model": self.model.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.begin_phase(state["epochs_done"])


def get_network(average: AveragedModel) -> Classifier:
    """The classifier whose weights are the averages."""
    network = average.module
    assert isinstance(network, Classifier)
    return network
