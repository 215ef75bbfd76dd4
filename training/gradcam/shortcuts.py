"""The shortcuts to a map's weights: which a network may offer, and how exact each one is.

Works on one recorded forward pass in eager torch. Knows nothing of how a network is run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from training.gradcam.reference import Method, NoGradientError

MAX_ERROR = 1e-9  # of a shortcut in double precision, over the largest weight
POOLS = (
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveMaxPool2d,
)


@dataclass
class ForwardRecord:
    """One forward pass: the map as a leaf, the outputs of modules after it, and the logits."""

    a: torch.Tensor
    after: list[tuple[str, nn.Module, torch.Tensor]]
    logits: torch.Tensor


def list_candidates(record: ForwardRecord, method: Method) -> list[tuple[str, str]]:
    """The kinds of shortcut and the modules that may offer them, the cheapest first."""
    k = record.a.shape[1]
    candidates: list[tuple[str, str]] = []
    for name, module, output in record.after:
        if isinstance(module, nn.Linear) and (method == "hirescam" or not module.in_features % k):
            candidates.append(("linear", name))
        if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1):
            same = module.in_channels == k and output.shape[1] == record.logits.shape[1]
            candidates += [("conv", name)] if same and module.groups == 1 else []
    if method == "gradcam":
        pools = [n for n, m, o in record.after if isinstance(m, POOLS) and o.shape[1] == k]
        candidates += [("pool", name) for name in reversed(pools)]
    return candidates


def measure_deviations(
    record: ForwardRecord, candidates: list[tuple[str, str]], method: Method
) -> dict[tuple[str, str], float]:
    """The deviation of each candidate's weights from the definition, over the largest weight.

    Raises:
        NoGradientError: the logits do not depend on the map.
    """
    outputs = {name: (module, output) for name, module, output in record.after}
    classes = torch.arange(len(record.a)) % record.logits.shape[1]
    y = record.logits.gather(1, classes[:, None]).sum()
    at = [outputs[name][1] for _, name in candidates]
    if not y.requires_grad:
        raise NoGradientError
    gradients: Sequence[torch.Tensor | None] = torch.autograd.grad(
        y, [record.a, *at], retain_graph=True, allow_unused=True
    )
    if gradients[0] is None:
        raise NoGradientError
    expected = gradients[0] if method == "hirescam" else gradients[0].mean((2, 3))
    largest = expected.abs().max().clamp_min(1e-300)
    shortcut = compute_gradient if method == "hirescam" else compute_alpha
    found = {}
    for (kind, name), gradient in zip(candidates, gradients[1:], strict=True):
        module, output = outputs[name]
        weights = None
        if gradient is not None:
            weights = shortcut(record, kind, module, output, gradient)
        error = (
            float("inf") if weights is None else float((weights - expected).abs().max() / largest)
        )
        found[kind, name] = error
    return found


def compute_alpha(
    record: ForwardRecord,
    kind: str,
    module: nn.Module,
    output: torch.Tensor,
    gradient: torch.Tensor,
) -> torch.Tensor | None:
    """alpha (N, K) by a shortcut, from a module's output and the gradient there; None: not so."""
    _, k, h, w = record.a.shape
    if kind == "pool":
        return gradient.sum((2, 3)) / (h * w)
    if kind == "conv":
        share, rows = differentiate_by_bias(record, module, output)
        return share.sum((2, 3)) * rows / (h * w)
    return gradient @ sum_over_positions(module, k) / (h * w) if gradient.ndim == 2 else None


def compute_gradient(
    record: ForwardRecord,
    kind: str,
    module: nn.Module,
    output: torch.Tensor,
    gradient: torch.Tensor,
) -> torch.Tensor | None:
    """G (N, K, h, w) by a shortcut, from an output and the gradient there; None: not so."""
    a = record.a
    if kind == "conv":
        share, rows = differentiate_by_bias(record, module, output)
        return share * rows[..., None, None] if share.shape[2:] == a.shape[2:] else None
    if gradient.ndim != 2:
        return None
    if output is not record.logits:  # any path around the module is missing from this gradient
        (found,) = torch.autograd.grad(output, a, gradient, retain_graph=True, allow_unused=True)
        return found
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    is_flat = weight[0].numel() == a[0].numel()
    return (gradient @ weight.detach()).reshape(a.shape) if is_flat else None


def differentiate_by_bias(
    record: ForwardRecord, module: nn.Module, output: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The derivative of each row's class at its map of logits (N, 1, h, w), and weights (N, K)."""
    n, classes = len(output), torch.arange(len(output)) % output.shape[1]
    (each,) = torch.autograd.grad(record.logits.sum(), output, retain_graph=True)
    share = each[torch.arange(n), classes][:, None]
    return share, sum_over_positions(module, record.a.shape[1])[classes]


def has_equal_gradients(record: ForwardRecord) -> bool:
    """Whether the gradient of every logit is the same at all positions of the map."""
    factors = make_random_numbers(record.logits.shape[1]) + 1
    y = (record.logits * factors).sum()  # whatever one logit alone has, this sum has too
    if not y.requires_grad:
        raise NoGradientError
    (gradient,) = torch.autograd.grad(y, record.a, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise NoGradientError
    apart = (gradient - gradient.mean((2, 3), keepdim=True)).abs().max()
    return bool(apart <= MAX_ERROR * gradient.abs().max())


def scatter(height: int, width: int) -> torch.Tensor:
    """A factor of either sign for each position, at which gates may be open or closed: (h, w)."""
    return 6 * make_random_numbers(height, width) - 3


def make_random_numbers(*sizes: int) -> torch.Tensor:
    """The same uniform numbers of 0 to 1 each time, in 64 bits."""
    return torch.rand(*sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def sum_over_positions(module: nn.Module, channels: int) -> torch.Tensor:
    """A head layer's weights, summed over the positions of each channel: (out, K)."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    weight = weight.detach()
    return weight.reshape(len(weight), channels, -1).sum(2)
