"""The state of a training run and its epochs, over augmented batches.

Knows nothing of architectures, picture files or checkpoint files. Every random number follows from
(seed, epoch), so a run that was killed and resumed gives the same result as an uninterrupted one.
"""

import copy
import time
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from training.config import Config
from training.data.datasets import Dataset
from training.fit.distributed import (
    average_gradients,
    broadcast_from_first,
    get_rank,
    get_world_size,
)
from training.fit.loaders import make_loader
from training.fit.optimizers import compute_rate_factor, make_loss, make_optimizer
from training.fit.overlap import count_confusion, score_confusion
from training.networks.classifier import Classifier


class TrainingRun:
    """The state of a training run: networks, optimizer, progress and history."""

    def __init__(
        self,
        config: Config,
        data: Dataset,
        model: Classifier,
        head: set[str],  # names of the parameters of the new head
        device: torch.device,
    ) -> None:
        self.config, self.data, self.model, self.device = config, data, model, device
        self.train, self.val = data.splits["train"], data.splits["val"]
        classes, share = len(data.labels), (get_rank(), get_world_size())
        self.train_loader = make_loader(self.train, config, classes, device, share, train=True)
        self.val_loader = make_loader(self.val, config, classes, device)
        self.averaged = copy.deepcopy(model).eval() if config.average else model
        shares = torch.from_numpy(self.train.class_shares(len(data.labels))).float().to(device)
        self.loss = make_loss(config, shares)
        named = list(model.network.named_parameters())
        self.body = [p for name, p in named if name not in head]
        groups = [
            {"params": [p for name, p in named if name in head], "share": 1.0},
            {"params": self.body, "share": config.body_rate},
        ]
        self.optimizer = make_optimizer(config, [group for group in groups if group["params"]])
        self.steps = len(self.train_loader)
        self.epochs_done = 0
        self.measure, self.sign = get_best_measure(config.task)
        self.best = float("inf")  # the least validation loss, or a measure with its sign changed
        self.best_epoch = 0
        self.improved = False
        self.history: list[dict[str, float]] = []

    def is_over(self) -> bool:
        """Whether all epochs are done, or the measure has not improved for long."""
        waited = self.epochs_done - self.best_epoch
        tired = 0 < self.config.patience <= waited
        return self.epochs_done >= self.config.epochs or tired

    def run_epoch(self) -> dict[str, float]:
        """Train for one epoch, then measure on the validation split."""
        started = time.monotonic()
        train_loss = self.train_epoch()
        self.epochs_done += 1
        found = {"train_loss": train_loss, **self.validate()}
        figures = dict(
            zip(found, broadcast_from_first([*found.values()], self.device), strict=True)
        )
        figures["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        figures["seconds"] = time.monotonic() - started
        value = self.sign * figures[self.measure]
        self.improved = value < self.best
        if self.improved:
            self.best, self.best_epoch = value, self.epochs_done
        self.history.append(figures)
        if get_rank() == 0:
            miou = f", mIoU {100 * figures['val_miou']:.2f} %" if "val_miou" in figures else ""
            tqdm.write(
                f"epoch {self.epochs_done}: loss {figures['train_loss']:.4f}, validation loss "
                f"{figures['val_loss']:.4f}, accuracy {100 * figures['val_accuracy']:.2f} %{miou}, "
                f"{figures['seconds']:.0f} s" + (" (best)" if self.improved else "")
            )
        return figures

    def train_epoch(self) -> float:
        """Take every step of one epoch; returns the mean loss of the batches."""
        config = self.config
        # Dropout uses this generator. Each process has its own numbers.
        torch.manual_seed(100_003 * config.seed + self.epochs_done + 7919 * get_rank())
        self.model.train()
        self.freeze_body(self.epochs_done < config.freeze_epochs)
        bar = tqdm(
            self.train_loader.iterate(self.epochs_done),
            f"epoch {self.epochs_done + 1}/{config.epochs}",
            self.steps,
            leave=False,
            disable=get_rank() > 0,
        )
        total = 0.0
        for step, (image, label) in enumerate(bar):
            self.set_learning_rate((self.epochs_done + step / self.steps) / config.epochs)
            total += self.train_step(image.to(self.device), label.to(self.device))
        return total / self.steps

    def set_learning_rate(self, done: float) -> None:
        """Set the schedule's rate after the share `done` (0..1) of the steps."""
        rate = self.config.learning_rate * compute_rate_factor(self.config, done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]

    def train_step(self, image: torch.Tensor, label: torch.Tensor) -> float:
        """One step of the optimizer on one batch; returns its loss."""
        config = self.config
        with self.autocast():
            loss = self.loss(self.model(image), label)
        if config.l1:
            loss = loss + config.l1 * sum(p.abs().sum() for p in self.model.parameters())
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.model.parameters())
        if config.clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimizer.step()
        self.update_average()
        return loss.item()

    def freeze_body(self, frozen: bool) -> None:
        """Freeze or unfreeze the body. Frozen batch-norms keep their statistics."""
        for weight in self.body:
            weight.requires_grad_(not frozen)
        if frozen:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    @torch.no_grad()
    def update_average(self) -> None:
        """Update the moving average of the weights."""
        if self.averaged is self.model:
            return
        both = self.averaged.state_dict(), self.model.state_dict()
        for kept, now in zip(*(state.values() for state in both), strict=True):
            if kept.is_floating_point():
                kept.lerp_(now, 1 - self.config.average)
            else:
                kept.copy_(now)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean loss and accuracy on the validation split, and the mIoU of masks."""
        self.averaged.eval()
        loss = right = 0.0
        classes = len(self.data.labels)
        confusion = torch.zeros(classes, classes, dtype=torch.int64)
        segmentation = self.config.task == "segmentation"
        for image, label in self.val_loader.iterate():
            label = label.to(self.device)
            with self.autocast():
                logits = self.averaged(image.to(self.device))
            loss += self.loss(logits.float(), label).item() * len(label)
            if segmentation:
                confusion += count_confusion(label, logits.argmax(1), classes).cpu()
            elif self.config.task == "multilabel":
                right += ((logits > 0) == (label > 0.5)).float().mean(1).sum().item()
            elif self.config.one_neuron:
                right += ((logits[:, 0] > 0) == (label == 1)).sum().item()
            else:
                right += (logits.argmax(1) == label).sum().item()
        figures = {"val_loss": loss / len(self.val), "val_accuracy": right / len(self.val)}
        if segmentation:
            scores = score_confusion(confusion)
            figures |= {"val_accuracy": scores.pixel_accuracy, "val_miou": scores.miou}
        return figures

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {
            "config": self.config.to_json(),
            "labels": list(self.data.labels),
            "model": self.model.state_dict(),
            "kept": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epochs_done": self.epochs_done,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["kept"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name in ("epochs_done", "best", "best_epoch", "history"):
            setattr(self, name, state[name])

    def make_checkpoint(self) -> dict[str, Any]:
        """Everything that evaluation and export need."""
        return {
            "config": self.config.to_json(),
            "labels": list(self.data.labels),
            "weights": self.averaged.network.state_dict(),
            "epoch": self.epochs_done,
            "history": self.history,
        }


def get_best_measure(task: str) -> tuple[str, int]:
    """The measure by which the best epoch is chosen, and -1 if more of it is better, else 1."""
    return ("val_miou", -1) if task == "segmentation" else ("val_loss", 1)
