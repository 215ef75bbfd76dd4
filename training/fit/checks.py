"""Checks before and during training: whether data, network and settings suit each other."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from training.config import Config
from training.data.datasets import Dataset
from training.errors import UserError
from training.fit.distributed import get_world_size
from training.networks.classifier import Classifier
from training.networks.trial import check_logits
from training.networks.unet import check_sides
from training.validation import describe_unknown


class DivergedError(UserError):
    """The loss of a run is not a finite number."""


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
    segmentation = config.task == "segmentation"
    if segmentation:
        check_sides(config.input, model.network)
    check_logits(config.architecture, config.input, outputs, model, segmentation)
    if config.average:
        check_copy(config, model)


def check_copy(config: Config, model: Classifier) -> None:
    """Raise UserError unless torch can copy the network, as a moving average of it needs."""
    try:
        copy.deepcopy(model)
    except RuntimeError as error:
        raise UserError(
            f"average={config.average} needs a copy of {config.architecture}, which torch cannot "
            "make of weights that are computed in each pass. Use torch.nn.utils.parametrizations "
            "in the place of weight_norm, spectral_norm and prune, or set average=0."
        ) from error


def check_loss(config: Config, loss: float, when: str) -> None:
    """Raise DivergedError if a loss is not a finite number."""
    if not math.isfinite(loss):
        raise DivergedError(
            f"The loss is not finite {when}: {loss}. Lower `learning_rate` (now "
            f"{config.learning_rate:g}) or set `clip`. This epoch was not saved."
        )


@contextmanager
def explain_compiler(used: bool) -> Iterator[None]:
    """If torch.compile is used, turn an error of it into a UserError with its cause."""
    if not used:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException  # its import takes seconds

    try:
        yield
    except TorchDynamoException as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(
            f"compile=True failed: {reason}. It needs a compiler for C++ on a CPU, and Triton on a "
            "GPU. Install it, or set compile=False."
        ) from error
