"""Maps of masks by their definitions, in eager torch.

Let A be the layer's output (N, C, h, w), M a set of pixels, y the sum of the target's logits over
M, and G = dy/dA.

- seg-hirescam: cam = sum_c G_c * A_c, position by position (HiResCAM of Draelos and Carin 2020).
- seg-gradcam: alpha is the mean of G over the positions, and cam = sum_c alpha_c A_c (Seg-Grad-CAM
  of Vinogradova et al. 2020).

Both are linear in the logits and in M. Every exported graph is compared with this reference.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from training.errors import UserError
from training.gradcam.masks.pixels import choose_pixels, split_classes
from training.gradcam.reference import (
    NoGradientError,
    attach_hook,
    copy_differentiably,
    get_single_map,
)

MaskMethod = Literal["seg-hirescam", "seg-gradcam"]
MASK_METHODS: tuple[MaskMethod, ...] = ("seg-hirescam", "seg-gradcam")
POINTWISE_CELLS = 4  # bilinear enlargement takes each pixel from so many cells
PROBED_PLACES = ((1 / 2, 1 / 2), (1 / 3, 1 / 3), (2 / 3, 1 / 3))


@dataclass(frozen=True)
class MaskExplanation:
    """Logits (N, K, H, W), the pixels that are explained (N, T, H, W), signed maps (N, T, h, w)."""

    logits: torch.Tensor
    pixels: torch.Tensor
    cam: torch.Tensor


@dataclass(frozen=True)
class MaskQuestion:
    """What a graph of masks gets: pictures, and of each the targets and regions to explain."""

    image: torch.Tensor  # (N, H, W, C)
    target: torch.Tensor  # (N, T)
    region: torch.Tensor  # (N, T, 5)
    mask: torch.Tensor | None = None  # (N, H, W): what was predicted; None: find out


def explain_mask(
    model: nn.Module,
    question: MaskQuestion,
    layer: nn.Module,
    method: MaskMethod,
    background: int | None,
) -> MaskExplanation:
    """The map of each target over its region, by the definition.

    Raises:
        UserError: the layer runs more than once, or its output is not a map larger than 1x1.
    """
    logits, a = run_with_leaf(model, question.image, layer)
    mask = logits.argmax(1) if question.mask is None else question.mask
    each = split_classes(mask, logits)
    target, pixels = choose_pixels(mask, each, question.target, question.region, background)
    n, _, h, w = a.shape
    cams = [a.new_zeros(n, 0, h, w)]
    for classes, chosen in zip(target.unbind(1), pixels.unbind(1), strict=True):
        index = classes[:, None, None, None].expand(n, 1, *logits.shape[2:])
        y = (logits.gather(1, index)[:, 0] * chosen).sum()
        gradient = differentiate(y, a)  # (N, C, h, w)
        weights = gradient.mean((2, 3), keepdim=True) if method == "seg-gradcam" else gradient
        cams.append((weights * a.detach()).sum(1, keepdim=True))
    return MaskExplanation(logits.detach(), pixels, torch.cat(cams, 1))


def run_with_leaf(
    model: nn.Module, image: torch.Tensor, layer: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits, and the layer's map, from which on gradients are recorded."""
    outputs: list[torch.Tensor] = []

    def leaf(_: nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
        outputs.append(output.detach().requires_grad_())
        return copy_differentiably(outputs[-1])

    with attach_hook(layer, leaf), torch.enable_grad():
        logits = model(image)
    return logits, get_single_map(outputs)


def differentiate(y: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """dy/dA; raises NoGradientError if y does not depend on A."""
    if not y.requires_grad:
        raise NoGradientError
    (gradient,) = torch.autograd.grad(y, a, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise NoGradientError
    return gradient


def check_spread(model: nn.Module, layer: nn.Module, image: torch.Tensor) -> None:
    """Raise UserError if each pixel's class depends on its own place in the layer's map alone.

    Such a map is the class's logits once more, and explains nothing.
    """
    logits, a = run_with_leaf(model, image[:1], layer)
    height, width = logits.shape[2:]
    cells = 0
    for down, across in PROBED_PLACES:
        pixel = logits[0, :, int(down * height), int(across * width)]
        for y in pixel.unbind():
            cells = max(cells, int(differentiate(y, a).abs().amax(1).count_nonzero()))
    if cells <= POINTWISE_CELLS:
        raise UserError(
            "After the target layer each pixel's class depends on its own place alone, as after a "
            "1x1 convolution. A map there is the class's logits once more and explains nothing. "
            "Choose an earlier layer."
        )
