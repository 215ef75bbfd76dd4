"""Backward operations that exporters have no translation for, written with ones they have.

Only gradients with respect to inputs: weights are constants here. Knows nothing of Grad-CAM.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

aten = torch.ops.aten
Tensor = torch.Tensor


def convolution_backward(
    gradient: Tensor,  # (N, O, h, w)
    image: Tensor,  # (N, C, H, W); only its shape is used
    weight: Tensor,  # (O, C / groups, kh, kw)
    _bias_sizes: list[int] | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: list[int],
    groups: int,
    output_mask: list[bool],
) -> Any:
    """The transposed convolution that undoes the shapes: (N, C, H, W)."""
    if output_mask[1] or output_mask[2] or transposed:
        return NotImplemented
    rest = [
        size - ((small - 1) * s - 2 * p + d * (k - 1) + 1)
        for size, small, s, p, d, k in zip(
            image.shape[2:],
            gradient.shape[2:],
            stride,
            padding,
            dilation,
            weight.shape[2:],
            strict=True,
        )
    ]
    back = aten.convolution.default(
        gradient, weight, None, stride, padding, dilation, True, rest, groups
    )
    return back, None, None


def avg_pool2d_backward(
    gradient: Tensor,  # (N, C, h, w)
    image: Tensor,  # (N, C, H, W)
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Tensor:
    """Each output spread evenly over its window: a transposed convolution channel by channel."""
    kh, kw = expand_pair(kernel)
    sh, sw = expand_pair(stride) if stride else (kh, kw)
    ph, pw = expand_pair(padding)
    (height, width), (h, w) = image.shape[2:], gradient.shape[2:]
    if divisor is None and (((ph or pw) and not count_include_pad) or ceil_mode):
        ones = torch.ones(1, 1, height, width, dtype=gradient.dtype, device=gradient.device)
        counts = F.avg_pool2d(
            ones, (kh, kw), (sh, sw), (ph, pw), ceil_mode, count_include_pad, divisor_override=1
        )  # pictures inside each window
        if count_include_pad:
            padded = F.pad(ones, (pw, pw, ph, ph), value=1.0)
            counts = F.avg_pool2d(padded, (kh, kw), (sh, sw), 0, ceil_mode, True, 1)[..., :h, :w]
        gradient, scale = gradient / counts, 1.0
    else:
        scale = 1 / (divisor or kh * kw)
    n, c = gradient.shape[:2]
    kernel_ = torch.full((1, 1, kh, kw), scale, dtype=gradient.dtype, device=gradient.device)
    rest = [
        size - ((small - 1) * s - 2 * p + k)
        for size, small, s, p, k in (
            (height, h, sh, ph, kh),
            (width, w, sw, pw, kw),
        )
    ]
    cut = [min(r, 0) for r in rest]
    back = aten.convolution.default(
        gradient.reshape(n * c, 1, h, w),
        kernel_,
        None,
        [sh, sw],
        [ph, pw],
        [1, 1],
        True,
        [max(r, 0) for r in rest],
        1,
    )  # (N C, 1, H, W)
    if cut != [0, 0]:  # ceil_mode's last window hangs over the edge
        back = back[..., :height, :width]
    spread: Tensor = back.reshape(n, c, height, width)
    return spread


def adaptive_avg_pool2d_backward(gradient: Tensor, image: Tensor) -> Tensor:
    """Each output spread over its region: one constant matrix for rows, one for columns."""
    (height, width), (h, w) = image.shape[2:], gradient.shape[2:]
    if (h, w) == (1, 1):
        return (gradient / (height * width)).expand(image.shape)
    rows, columns = (make_region_matrix(*sizes, gradient) for sizes in ((h, height), (w, width)))
    back: Tensor = rows.t() @ gradient @ columns  # (N, C, H, W)
    return back


def make_region_matrix(small: int, size: int, like: Tensor) -> Tensor:
    """What share each of `size` inputs has in each of `small` averages: (small, size)."""
    index = torch.arange(small, device=like.device)
    begin, end = index * size // small, -(-(index + 1) * size // small)
    at = torch.arange(size, device=like.device)
    inside = (at >= begin[:, None]) & (at < end[:, None])
    return inside.to(like.dtype) / (end - begin)[:, None].to(like.dtype)


def hardtanh_backward(gradient: Tensor, image: Tensor, low: float, high: float) -> Tensor:
    """Nothing at the bounds themselves: the exporter's own translation lets it through there."""
    return torch.where((image > low) & (image < high), gradient, 0.0)


def silu_backward(gradient: Tensor, image: Tensor) -> Tensor:
    """Of x sigmoid(x), as EfficientNet has it."""
    share = image.sigmoid()
    return gradient * share * (1 + image * (1 - share))


def expand_pair(sizes: list[int]) -> tuple[int, int]:
    return (sizes[0], sizes[-1])


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: convolution_backward,
    aten.hardtanh_backward.default: hardtanh_backward,
    aten.silu_backward.default: silu_backward,
    aten.avg_pool2d_backward.default: avg_pool2d_backward,
    aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool2d_backward,
}
