"""Runs a network once before it is trained or exported, and says in a sentence what is wrong.

Knows nothing of weights or graphs.
"""

import inspect

import torch
from torch import nn

from training.errors import UserError
from training.imaging.preprocessing import Input
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier

PICTURES = 3
SAME = 1e-3  # of the largest logit: far above rounding
PROBABILITIES = {"SoftmaxBackward0": "softmax", "SigmoidBackward0": "sigmoid"}


def check_logits(
    name: str, input_spec: Input, outputs: int | None, model: Classifier, masks: bool = False
) -> None:
    """Raise UserError unless the network turns each picture into `outputs` logits.

    With None, any number of outputs is accepted. With `masks` they are the logits of each pixel.
    """
    found = count_logits(name, input_spec, model, outputs, masks)
    if outputs not in (None, found):
        sizes = (input_spec.height, input_spec.width) if masks else ()
        raise make_shape_error(name, (1, found, *sizes), (1, outputs, *sizes))
    check_ending(name, input_spec, model)


def count_logits(
    name: str,
    input_spec: Input,
    model: Classifier,
    outputs: int | None = None,
    masks: bool = False,
) -> int:
    """The number of logits that the network returns for each picture, in evaluation mode.

    `outputs` is the number to name in a sentence. With `masks` each pixel has so many.

    Raises:
        UserError: it does not run on such pictures, returns anything but a tensor (N, K), draws
            random numbers, or mixes the pictures of a batch.
    """
    check_parameters(name, model.network)
    size = (input_spec.height, input_spec.width, input_spec.channels)
    pictures = torch.from_numpy(generate_images(PICTURES, *size))  # (N, H, W, C)
    model.eval()
    with torch.random.fork_rng(devices=[]):
        try:
            alone = [run_seeded(model, picture, 0) for picture in torch.split(pictures, 1)]
            again, batch = run_seeded(model, pictures[:1], 1), run_seeded(model, pictures, 0)
        except Exception as error:  # the network may be the user's
            raise UserError(
                f"{name} does not run on pictures of {' x '.join(map(str, size))}: "
                f"{summarize(error)}"
            ) from error
        for logits, count in ((alone[0], 1), (batch, PICTURES)):
            shape = (count, outputs, *(size[:2] if masks else ()))
            check_output(name, logits, shape)
        check_repeatable(name, model, pictures[:1], (alone[0], again))
    check_rows(name, model.network, torch.cat(alone), batch)
    return int(batch.shape[1])


def check_parameters(name: str, network: nn.Module) -> None:
    """Raise UserError unless the network's forward takes the pictures alone."""
    needed = [
        parameter.name
        for parameter in inspect.signature(network.forward).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    if len(needed) > 1:
        raise UserError(
            f"{name} takes {len(needed)} inputs ({', '.join(needed)}). Its forward must take the "
            "pictures (N, C, H, W) alone."
        )


def run_seeded(model: Classifier, pictures: torch.Tensor, seed: int) -> torch.Tensor:
    """The output for pictures (N, H, W, C), with random numbers that follow from the seed."""
    torch.manual_seed(seed)
    output: torch.Tensor = model(pictures.float().requires_grad_())
    return output


def check_output(name: str, logits: object, shape: tuple[int | None, ...]) -> None:
    """Raise UserError unless the output is a tensor of logits of this shape; None: any number."""
    if not isinstance(logits, torch.Tensor):
        kind = type(logits).__name__
        raise UserError(
            f"{name} returns a {kind}. It must return logits alone: the tensor (N, K) itself, "
            "without a tuple, a dictionary or an object around it."
        )
    found = tuple(logits.shape)
    others = (found[0], *found[2:]) if len(found) > 1 else found
    if len(found) != len(shape) or others != (shape[0], *shape[2:]):
        raise make_shape_error(name, found, shape)


def check_ending(name: str, input_spec: Input, model: Classifier) -> None:
    """Raise UserError if the network, which runs, returns probabilities instead of logits."""
    picture = generate_images(1, input_spec.height, input_spec.width, input_spec.channels)
    last = type(model.eval()(torch.from_numpy(picture).float().requires_grad_()).grad_fn).__name__
    if last in PROBABILITIES:
        raise UserError(
            f"{name} ends with a {PROBABILITIES[last]}, so it returns probabilities. "
            "Return the logits before it."
        )


def make_shape_error(name: str, found: tuple[int, ...], shape: tuple[int | None, ...]) -> UserError:
    """The error for an output of another shape than (N, K), or (N, K, H, W)."""
    count, outputs, *sizes = shape
    pictures = "one picture" if count == 1 else f"{count} pictures"
    hint = " Remove squeeze(), or flatten from dimension 1 only." if len(found) < 2 else ""
    wanted = ", ".join(map(str, ("N", outputs or "K", *sizes)))
    each = "for each pixel, one per label" if sizes else "one per label"
    return UserError(
        f"{name} must return logits of shape ({wanted}), {each}. "
        f"For {pictures} it returns {found}.{hint}"
    )


def check_repeatable(
    name: str, model: Classifier, picture: torch.Tensor, logits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    """Raise UserError if two passes over the same picture give different logits."""
    if are_same(*logits):
        return
    if are_same(logits[0], run_seeded(model, picture, 0)):
        raise UserError(
            f"{name} draws random numbers in eval(), so a picture has several answers. "
            "Call F.dropout with training=self.training, and draw no numbers in its forward."
        )
    raise UserError(
        f"{name} changes from pass to pass in eval(), so a picture has several answers. "
        "Its forward must not change its buffers or attributes."
    )


def check_rows(name: str, network: nn.Module, alone: torch.Tensor, batch: torch.Tensor) -> None:
    """Raise UserError if the pictures' logits (N, K) are others in a batch than alone."""
    if are_same(alone, batch):
        return
    norms = [
        norm
        for norm, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        and (module.running_mean is None or module.training)
    ]
    cause = (
        f"The norm {norms[0]!r} uses the statistics of the batch in eval(), too. Give it running "
        "statistics (track_running_stats=True)."
        if norms
        else "Its forward must treat each picture alone."
    )
    raise UserError(
        f"{name} answers differently to a picture alone and to the same picture in a batch. {cause}"
    )


def are_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether logits differ by no more than rounding."""
    return torch.allclose(a, b, rtol=0, atol=SAME * float(a.detach().abs().max()), equal_nan=True)


def summarize(error: Exception) -> str:
    """An error of the user's network, in its kind and its first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
