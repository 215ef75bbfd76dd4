"""The training loop: epochs over augmented batches. It keeps the best state and can resume.

Knows nothing of architectures, picture files or ONNX. Every random number follows from (seed,
epoch), so a run that was killed and resumed gives the same result as an uninterrupted one.
"""

import copy
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.config import Config
from training.data.datasets import Dataset, Split
from training.errors import UserError
from training.fit.checkpoint import save_atomically
from training.fit.distributed import (
    average_gradients,
    broadcast_from_first,
    check_batch_size,
    get_rank,
    get_world_size,
    join_process_group,
    leave_process_group,
)
from training.fit.optimizers import compute_rate_factor, make_loss, make_optimizer
from training.networks.classifier import Classifier, prepare_classifier


def fit(config: Config, data: Dataset, folder: Path, resume: bool = False) -> dict[str, Any]:
    """Train as the config says, and leave the best state in `folder/best.pt`.

    Returns the last epoch's figures: losses, validation accuracy, learning rate and seconds.

    Raises:
        UserError: the folder holds a run and `resume` is false, or the config is not valid.
    """
    last = folder / "last.pt"
    if last.exists() and not resume:
        raise UserError(
            f"{folder} already holds a run. "
            "Continue it with --resume, or give another folder with --out."
        )
    device = join_process_group(config.device)
    check_batch_size(config.batch_size)
    torch.manual_seed(config.seed)
    model, head = prepare_classifier(config, len(data.labels))
    model = model.to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    run = TrainingRun(config, data, model, head, device)
    if resume and last.exists():
        run.load_state_dict(torch.load(last, map_location=device, weights_only=True))
    first = get_rank() == 0
    folder.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(folder / "log")) if first else nullcontext() as writer:
        while not run.is_over():
            figures = run.run_epoch()
            if writer is None:
                continue
            for name, value in figures.items():
                writer.add_scalar(name, value, run.epochs_done)
            if run.improved:
                save_atomically(run.make_checkpoint(data.labels), folder / "best.pt")
            save_atomically(run.state_dict(), last)
    leave_process_group()
    return run.history[-1]


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
        self.steps = len(self.train) // config.batch_size or 1
        self.epochs_done = 0
        self.best = float("inf")
        self.best_epoch = 0
        self.improved = False
        self.history: list[dict[str, float]] = []

    def is_over(self) -> bool:
        """Whether all epochs are done, or the validation loss has not improved for long."""
        waited = self.epochs_done - self.best_epoch
        tired = 0 < self.config.patience <= waited
        return self.epochs_done >= self.config.epochs or tired

    def run_epoch(self) -> dict[str, float]:
        """Train for one epoch, then measure the validation loss and accuracy."""
        config, started = self.config, time.monotonic()
        torch.manual_seed(100_003 * config.seed + self.epochs_done)  # dropout uses this generator
        order = torch.initial_seed()  # the same order in every process
        torch.manual_seed(order + 7919 * get_rank())
        rng = torch.Generator(self.device).manual_seed(torch.initial_seed() + 1)
        self.model.train()
        self.freeze_body(self.epochs_done < config.freeze_epochs)
        total = 0.0
        bar = tqdm(
            iterate_batches(self.train, config.batch_size, order),
            f"epoch {self.epochs_done + 1}/{config.epochs}",
            self.steps,
            leave=False,
            disable=get_rank() > 0,
        )
        for step, (image, label) in enumerate(bar):
            done = (self.epochs_done + step / self.steps) / config.epochs
            for group in self.optimizer.param_groups:
                rate = config.learning_rate * compute_rate_factor(config, done)
                group["lr"] = rate * group["share"]
            image, label = image.to(self.device), label.to(self.device)
            with self.autocast():
                loss = self.loss(self.model(config.augment(image, rng)), label)
            if config.l1:
                loss = loss + config.l1 * sum(p.abs().sum() for p in self.model.parameters())
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            average_gradients(self.model.parameters())
            if config.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
            self.optimizer.step()
            self.update_average()
            total += loss.item()
        self.epochs_done += 1
        val_loss, accuracy = broadcast_from_first(self.validate(), self.device)
        self.improved = val_loss < self.best
        if self.improved:
            self.best, self.best_epoch = val_loss, self.epochs_done
        figures = {
            "train_loss": total / self.steps,
            "val_loss": val_loss,
            "val_accuracy": accuracy,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": time.monotonic() - started,
        }
        self.history.append(figures)
        if get_rank() == 0:
            tqdm.write(
                f"epoch {self.epochs_done}: loss {figures['train_loss']:.4f}, validation loss "
                f"{val_loss:.4f}, accuracy {100 * accuracy:.2f} %, {figures['seconds']:.0f} s"
                + (" (best)" if self.improved else "")
            )
        return figures

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
    def validate(self) -> tuple[float, float]:
        """Mean loss and accuracy on the validation split."""
        self.averaged.eval()
        loss = right = 0.0
        for image, label in iterate_batches(self.val, 4 * self.config.batch_size):
            label = label.to(self.device)
            with self.autocast():
                logits = self.averaged(image.to(self.device))
            loss += self.loss(logits.float(), label).item() * len(label)
            if self.config.task == "multilabel":
                right += ((logits > 0) == (label > 0.5)).float().mean(1).sum().item()
            elif self.config.one_neuron:
                right += ((logits[:, 0] > 0) == (label == 1)).sum().item()
            else:
                right += (logits.argmax(1) == label).sum().item()
        return loss / len(self.val), right / len(self.val)

    def autocast(self) -> torch.autocast:
        return torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {
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

    def make_checkpoint(self, labels: tuple[str, ...]) -> dict[str, Any]:
        """Everything that evaluation and export need."""
        return {
            "config": self.config.to_json(),
            "labels": list(labels),
            "weights": self.averaged.network.state_dict(),
            "epoch": self.epochs_done,
            "history": self.history,
        }


def iterate_batches(
    split: Split, size: int, seed: int | None = None
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of pictures (n, H, W, C) uint8 and labels.

    With a seed they are shuffled, a smaller last batch is dropped, and each process gets its share
    of every batch.
    """
    order = np.arange(len(split))
    if seed is not None:
        order = np.random.default_rng(seed).permutation(order)
        order = order[: max(len(order) // size, 1) * size]
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        if seed is not None:
            rows = rows[get_rank() :: get_world_size()]
        yield torch.from_numpy(split.pictures[rows]), torch.from_numpy(split.labels[rows])
