"""Checks before and during training: whether data, network and settings suit each other."""

import math

import torch
from torch import nn

from training.config import Config
from training.data.datasets import Dataset
from training.errors import UserError
from training.fit.distributed import get_world_size
from training.imaging.preprocessing import Input
from training.networks.classifier import Classifier
from training.validation import describe_unknown


def check_splits(config: Config, data: Dataset) -> None:
    """Raise UserError unless there are pictures of the right shape to train and validate on."""
    for name in ("train", "val"):
        if not data.has_split(name):
            raise UserError(
                f"{config.data} has no pictures for the split {name!r} "
                f"(validation={config.validation}). Set `validation` above 0, give each label at "
                "least 2 pictures, or add a folder val."
            )
    shape = data.splits["train"].pictures.shape[1:]
    wanted = (config.input.height, config.input.width, config.input.channels)
    if shape != wanted:
        found, accepted = (" x ".join(map(str, sizes)) for sizes in (shape, wanted))
        raise UserError(
            f"The pictures of {config.data} are {found}, but `input` describes {accepted}. "
            "Change height, width and mode of `input`."
        )


def check_network(config: Config, data: Dataset, model: Classifier) -> None:
    """Raise UserError unless the network runs, has the target layer and can take the batches."""
    batch = min(config.batch_size, len(data.splits["train"])) // get_world_size()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if norms and batch < 2:
        raise UserError(
            f"{config.architecture} has batch-norm, which needs at least 2 pictures per step and "
            f"process, got {batch}. Raise `batch_size`."
        )
    if config.layer not in (None, "auto"):
        names = [name for name, _ in model.network.named_modules() if name]
        if config.layer not in names:
            raise UserError(describe_unknown("layer", str(config.layer), names))
    outputs = 1 if config.one_neuron else len(data.labels)
    check_logits(config.architecture, config.input, outputs, model)


def check_logits(name: str, input_spec: Input, outputs: int | None, model: Classifier) -> None:
    """Raise UserError unless the network turns one blank picture into logits (1, outputs).

    With None, any number of outputs is accepted.
    """
    size = (input_spec.height, input_spec.width, input_spec.channels)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            logits = model.eval()(torch.zeros(1, *size, dtype=torch.uint8))
        except Exception as error:  # the network may be the user's
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(
                f"{name} does not run on pictures of {' x '.join(map(str, size))}: {reason}"
            ) from error
    if not isinstance(logits, torch.Tensor):
        raise UserError(f"{name} returns a {type(logits).__name__}. It must return logits alone.")
    found = tuple(logits.shape)
    if len(found) != 2 or found != (1, outputs or found[1]):
        raise UserError(
            f"{name} must return logits of shape (N, {outputs or 'K'}), one per label. "
            f"For one picture it returns {found}."
        )


def check_loss(figures: dict[str, float], epoch: int, learning_rate: float) -> None:
    """Raise UserError if an epoch ended with a loss that is not a finite number."""
    losses = figures["train_loss"], figures["val_loss"]
    if not all(math.isfinite(loss) for loss in losses):
        raise UserError(
            f"The loss is not finite after epoch {epoch}: training {losses[0]}, validation "
            f"{losses[1]}. Lower `learning_rate` (now {learning_rate:g}) or set `clip`. "
            "This epoch was not saved."
        )
