"""Grad-CAM and HiResCAM by their definitions, in eager torch.

Let A be the layer's output (N, K, h, w), y the logit to explain and G = dy/dA.

- Grad-CAM (Selvaraju et al. 2017, equations 1 and 2): alpha is the mean of G over the positions of
  each channel, and cam = sum_k alpha_k A_k.
- HiResCAM (Draelos and Carin 2020): cam = sum_k G_k * A_k, position by position, without the mean.

Every exported graph is compared with this reference. Knows nothing of ONNX.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from training.errors import UserError
from training.networks.fixed_weights import fix_weights

Method = Literal["gradcam", "hirescam"]
METHODS: tuple[Method, ...] = ("gradcam", "hirescam")


class NoGradientError(UserError):
    """The logits do not depend on the target layer by any gradient."""

    def __init__(self) -> None:
        super().__init__(
            "No gradient of the logits reaches the target layer. Either the logits do not depend "
            "on it, or its output passes a torch.no_grad, a detach or a numpy array. "
            "Remove that, or choose a later layer."
        )


@dataclass(frozen=True)
class Explanation:
    """Logits (N, C), channel weights alpha (N, T, K), and signed raw maps cam (N, T, h, w)."""

    logits: torch.Tensor
    alpha: torch.Tensor
    cam: torch.Tensor


def compute_gradcam(
    model: nn.Module,
    image: torch.Tensor,
    target: torch.Tensor,
    layer: nn.Module,
    method: Method = "gradcam",
) -> Explanation:
    """Grad-CAM, or another method, of each target at a layer, by its definition.

    Takes pictures (N, H, W, C) and class indices (N, T); -1 stands for the row's top-1.

    Raises:
        UserError: the layer runs more than once, or its output is not a map larger than 1x1.
    """
    outputs: list[torch.Tensor] = []

    def leaf(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        outputs.append(output.detach().requires_grad_())
        return copy_differentiably(outputs[-1])

    with attach_hook(layer, leaf), torch.enable_grad():
        logits = model(image)  # (N, C)
    a = get_single_map(outputs)  # (N, K, h, w)
    target = resolve_targets(target, logits)
    n, k, h, w = a.shape
    alphas, cams = [a.new_zeros(n, 0, k)], [a.new_zeros(n, 0, h, w)]
    for column in target.unbind(1):
        y = logits.gather(1, column[:, None]).sum()
        (gradient,) = torch.autograd.grad(y, a, retain_graph=True)  # (N, K, h, w)
        alpha = gradient.mean((2, 3), keepdim=True)
        weights = alpha if method == "gradcam" else gradient
        alphas.append(alpha.reshape(n, 1, k))
        cams.append((weights * a.detach()).sum(1, keepdim=True))
    return Explanation(logits.detach(), torch.cat(alphas, 1), torch.cat(cams, 1))


def copy_differentiably(output: torch.Tensor) -> torch.Tensor:
    """A layer's output for what comes after it, which may change it in place.

    A network that turns gradients off for its body alone still has those of what follows the body.
    """
    with torch.enable_grad():
        return output.clone()


def prepare_network(model: nn.Module) -> None:
    """Set evaluation mode, fix the weights, and switch off in-place activations."""
    fix_weights(model.eval())
    model.requires_grad_(False)
    for module in model.modules():
        if hasattr(module, "inplace"):
            setattr(module, "inplace", False)  # noqa: B010


def make_exact_copy(model: nn.Module) -> nn.Module:
    """A copy of the network in 64 bits, with the tensors that its modules keep as attributes."""
    exact = copy.deepcopy(model).double()
    for module in exact.modules():
        for name, value in vars(module).items():
            if not name.startswith("_"):
                vars(module)[name] = widen(value)
    return exact


def widen(value: Any) -> Any:
    """The value with its tensors of 32 bits in 64 bits, also those in a list or dictionary."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.double()
    if type(value) is dict:
        return {key: widen(item) for key, item in value.items()}
    return [widen(item) for item in value] if type(value) is list else value


@contextmanager
def use_64_bits() -> Iterator[None]:
    """Let the constants that a network makes in its forward have 64 bits while the block runs."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def resolve_targets(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """The targets (N, T), with each -1 replaced by the row's top-1."""
    return torch.where(target < 0, logits.detach().argmax(1, keepdim=True), target)


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The layer of this name; raises UserError if there is none."""
    try:
        return network.get_submodule(name)
    except AttributeError as error:
        names = [n for n, m in network.named_modules() if n and not list(m.children())]
        raise UserError(
            f"There is no layer {name!r}. The last layers are: {', '.join(names[-8:])}."
        ) from error


def get_single_map(outputs: list[torch.Tensor]) -> torch.Tensor:
    """The layer's one output, a map (N, K, h, w) larger than 1x1."""
    if len(outputs) != 1:
        raise UserError(
            f"The target layer runs {len(outputs)} times in a pass. Choose a layer that runs once."
        )
    if outputs[0].ndim != 4:
        raise UserError(
            f"The target layer's output has shape {tuple(outputs[0].shape)}. "
            "Choose a layer with four dimensions (N, K, h, w)."
        )
    if outputs[0].shape[2:] == (1, 1):
        raise UserError(
            "The target layer's map is 1x1, which cannot show a place. Choose an earlier layer."
        )
    return outputs[0]


@contextmanager
def attach_hook(module: nn.Module, hook: Any, before: bool = False) -> Iterator[None]:
    """Attach a forward hook, or pre-hook, to the module while the block runs."""
    put = module.register_forward_pre_hook if before else module.register_forward_hook
    handle = put(hook)
    try:
        yield
    finally:
        handle.remove()
