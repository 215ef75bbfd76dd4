"""The state of a training run and its epochs, over augmented batches.

Knows nothing of architectures, picture files or checkpoint files. Every random number follows from
(seed, epoch), so a run that was killed and resumed gives the same result as an uninterrupted one.
"""

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import torch

from training.config import Config
from training.data.datasets import Dataset
from training.fit.checks import check_loss, explain_compiler
from training.fit.distributed import average, gather, get_rank, get_world_size, share_buffers
from training.fit.learner import Learner
from training.fit.loaders import make_loader
from training.fit.losses import make_loss
from training.fit.progress import Progress, describe_epoch
from training.fit.scores import Tally, get_best_measure, merge_tallies, take_share
from training.networks.classifier import Classifier

T = TypeVar("T")
CHECKED_STEPS = 20  # the loss is looked at after so many steps: each look waits for the device


class TrainingRun:
    """The state of a training run: the learner, its progress and its history."""

    def __init__(
        self,
        config: Config,
        data: Dataset,
        model: Classifier,
        head: set[str],  # names of the parameters of the new head
        device: torch.device,
    ) -> None:
        self.config, self.data, self.device = config, data, device
        train, classes = data.splits["train"], len(data.labels)
        share = get_rank(), get_world_size()
        self.train_loader = make_loader(train, config, classes, device, share, train=True)
        val = take_share(data.splits["val"], config.batch_size, *share)
        self.val_loader = make_loader(val, config, classes, device)
        self.batches = len(self.train_loader)
        shares = None
        if config.class_weights:
            shares = torch.from_numpy(train.class_shares(classes)).float().to(device)
        self.learner = Learner(config, model, head, make_loss(config, shares), device, self.batches)
        self.epochs_done = 0
        self.measure, self.sign = get_best_measure(config)
        self.best = float("inf")  # the least validation loss, or a measure with its sign changed
        self.best_epoch = 0
        self.improved = False
        self.history: list[dict[str, float]] = []

    def is_over(self) -> bool:
        """Whether all epochs are done, or the measure has not improved for long."""
        waited = self.epochs_done - self.best_epoch
        has_stalled = 0 < self.config.patience <= waited
        return self.epochs_done >= self.config.epochs or has_stalled

    def run_epoch(self, progress: Progress) -> dict[str, float]:
        """Train for one epoch, then measure on the validation split.

        Raises:
            DivergedError: the loss is no longer finite.
        """
        started = time.monotonic()
        with explain_compiler(self.config.compile):
            train_loss, rate = self.train_epoch(progress)
        self.epochs_done += 1
        figures = {"train_loss": train_loss, **self.validate(), "learning_rate": rate}
        check_loss(self.config, figures["val_loss"], f"on validation in epoch {self.epochs_done}")
        figures["seconds"] = time.monotonic() - started
        value = self.sign * figures[self.measure]
        self.improved = value < self.best
        if self.improved:
            self.best, self.best_epoch = value, self.epochs_done
        self.history.append(figures)
        progress.write(describe_epoch(self.epochs_done, figures, self.measure, self.improved))
        return figures

    def train_epoch(self, progress: Progress) -> tuple[float, float]:
        """Take every step of one epoch; returns the mean loss of the steps and the last rate."""
        config, learner, epoch = self.config, self.learner, self.epochs_done + 1
        # Dropout uses this generator. Each process has its own numbers.
        torch.manual_seed(100_003 * config.seed + self.epochs_done + 7919 * get_rank())
        learner.begin_epoch(self.epochs_done)
        batches = self.train_loader.iterate(self.epochs_done)
        losses: list[torch.Tensor] = []
        rate, when = 0.0, ""
        for group in group_batches(progress.follow(batches, epoch), config.accumulate):
            rate = learner.optimizer.param_groups[0]["lr"]
            losses.append(learner.train_step(group))
            when = f"after {len(losses)} steps of epoch {epoch}"
            if len(losses) % CHECKED_STEPS == 0:
                self.compute_mean_loss(losses[-CHECKED_STEPS:], when)
        return self.compute_mean_loss(losses, when), rate

    def compute_mean_loss(self, losses: list[torch.Tensor], when: str) -> float:
        """The mean loss of these steps, of all processes. DivergedError if it is not finite."""
        loss = average(float(torch.stack(losses).cpu().double().mean()), self.device)
        check_loss(self.config, loss, when)
        return loss

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss, accuracy and the measure of the best epoch, on the validation split."""
        learner = self.learner
        learner.kept.eval()
        share_buffers(learner.model)
        if learner.average:
            share_buffers(learner.kept)
        tally = Tally(self.config, len(self.data.labels))
        for image, label in self.val_loader.iterate():
            label = label.to(self.device)
            with learner.autocast():
                logits = learner.kept(image.to(self.device)).float()
            tally.count(learner.loss(logits, label).item(), logits, label)
        return merge_tallies(gather(tally))

    def state_dict(self) -> dict[str, Any]:
        """Everything that resuming needs."""
        return {
            "config": self.config.to_json(),
            "labels": list(self.data.labels),
            **self.learner.state_dict(),
            "epochs_done": self.epochs_done,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learner.load_state_dict(state)
        for name in ("epochs_done", "best", "best_epoch", "history"):
            setattr(self, name, state[name])

    def make_checkpoint(self) -> dict[str, Any]:
        """Everything that evaluation and export need."""
        return {
            "config": self.config.to_json(),
            "labels": list(self.data.labels),
            "weights": self.learner.kept.network.state_dict(),
            "epoch": self.epochs_done,
            "history": self.history,
        }


def group_batches(batches: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of so many batches. The last one may be shorter."""
    stream = iter(batches)
    while group := list(islice(stream, size)):
        yield group
