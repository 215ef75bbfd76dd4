"""The training loop: it checks, runs the epochs, keeps the best state and can resume."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from training.config import Config
from training.data.datasets import Dataset
from training.errors import UserError
from training.fit.checkpoint import check_resumable, load_state, save_atomically
from training.fit.checks import check_network, check_splits
from training.fit.distributed import (
    check_batch_size,
    check_norms,
    get_rank,
    join_process_group,
    leave_process_group,
)
from training.fit.progress import Progress
from training.fit.scores import check_best
from training.fit.training_run import TrainingRun
from training.networks.classifier import prepare_classifier


def fit(config: Config, data: Dataset, folder: Path, resume: bool = False) -> dict[str, Any]:
    """Train as the config says, and leave the best state in `folder/best.pt`.

    Returns the last epoch's figures: losses, validation accuracy, learning rate and seconds.

    Raises:
        UserError: the folder holds a run and `resume` is false, the config does not suit the data
            or the network, or the loss is no longer finite.
    """
    last = folder / "last.pt"
    if last.exists() and not resume:
        raise UserError(
            f"{folder} already holds a run. "
            "Continue it with --resume, or give another folder with --out."
        )
    try:
        run = start_run(config, data)
        if last.exists():
            resume_run(run, last)
        first = get_rank() == 0
        folder.mkdir(parents=True, exist_ok=True)
        with (
            SummaryWriter(str(folder / "log")) if first else nullcontext() as writer,
            Progress(config.epochs, run.batches, run.epochs_done) as progress,
        ):
            while not run.is_over():
                figures = run.run_epoch(progress)
                if writer is None:
                    continue
                for name, value in figures.items():
                    writer.add_scalar(name, value, run.epochs_done)
                if run.improved:
                    save_atomically(run.make_checkpoint(), folder / "best.pt")
                save_atomically(run.state_dict(), last)
    finally:
        leave_process_group()
    return run.history[-1]


def start_run(config: Config, data: Dataset) -> TrainingRun:
    """A run before its first epoch, after all checks. Joins the process group under torchrun."""
    device = join_process_group(config.device)
    check_batch_size(config.batch_size)
    check_norms(config.sync_batch_norm, device)
    check_splits(config, data)
    check_best(config, data.splits["val"], len(data.labels))
    torch.manual_seed(config.seed)
    model, head = prepare_classifier(config, len(data.labels))
    check_network(config, data, model)
    model = model.to(device)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if config.sync_batch_norm:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    return TrainingRun(config, data, model, head, device)


def resume_run(run: TrainingRun, last: Path) -> None:
    """Continue from a run's last state.

    Raises:
        UserError: the state cannot be read, or is that of another network.
    """
    state = load_state(last, run.device)
    check_resumable(state, run.config, run.data.labels, last.parent)
    try:
        run.load_state_dict(state)
    except (RuntimeError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"The run in {last.parent} does not match the config: {reason} "
            "Resume it with its own config, or start a new run with --out."
        ) from error
