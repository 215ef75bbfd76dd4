"""Decompositions of backward operations that the ONNX exporter lacks or translates wrongly.

Only gradients with respect to inputs: the weights are constants here. Knows nothing of Grad-CAM.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

aten = torch.ops.aten
Tensor = torch.Tensor


def convolution_backward(
    gradient: Tensor,  # (N, O, h, w)
    image: Tensor,  # (N, C, H, W), used for its shape only
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
    """A transposed convolution to the input's shape (N, C, H, W)."""
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
    """Spread each output's gradient over its window, by a transposed convolution per channel."""
    kh, kw = expand_pair(kernel)
    sh, sw = expand_pair(stride) if stride else (kh, kw)
    ph, pw = expand_pair(padding)
    (height, width), (h, w) = image.shape[2:], gradient.shape[2:]
    if divisor is None and (((ph or pw) and not count_include_pad) or ceil_mode):
        ones = torch.ones(1, 1, height, width, dtype=gradient.dtype, device=gradient.device)
        counts = F.avg_pool2d(
            ones, (kh, kw), (sh, sw), (ph, pw), ceil_mode, count_include_pad, divisor_override=1
        )  # pixels inside each window
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
    if cut != [0, 0]:  # with ceil_mode the last window extends over the edge
        back = back[..., :height, :width]
    spread: Tensor = back.reshape(n, c, height, width)
    return spread


def adaptive_avg_pool2d_backward(gradient: Tensor, image: Tensor) -> Tensor:
    """Spread each output over its region, by one constant matrix for rows and one for columns."""
    (height, width), (h, w) = image.shape[2:], gradient.shape[2:]
    if (h, w) == (1, 1):
        return (gradient / (height * width)).expand(image.shape)
    rows, columns = (make_region_matrix(*sizes, gradient) for sizes in ((h, height), (w, width)))
    back: Tensor = rows.t() @ gradient @ columns  # (N, C, H, W)
    return back


def make_region_matrix(small: int, size: int, like: Tensor) -> Tensor:
    """The weight of each of `size` inputs in each of `small` averages: (small, size)."""
    index = torch.arange(small, device=like.device)
    begin, end = index * size // small, -(-(index + 1) * size // small)
    at = torch.arange(size, device=like.device)
    inside = (at >= begin[:, None]) & (at < end[:, None])
    return inside.to(like.dtype) / (end - begin)[:, None].to(like.dtype)


def hardtanh_backward(gradient: Tensor, image: Tensor, low: float, high: float) -> Tensor:
    """Zero at the bounds, as in torch; the exporter's own translation passes the gradient there."""
    return torch.where((image > low) & (image < high), gradient, 0.0)


def silu_backward(gradient: Tensor, image: Tensor) -> Tensor:
    """The gradient of x sigmoid(x)."""
    share = image.sigmoid()
    return gradient * share * (1 + image * (1 - share))


def expand_pair(sizes: list[int]) -> tuple[int, int]:
    """Height and width of a size that may be given once for both."""
    return (sizes[0], sizes[-1])


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: convolution_backward,
    aten.hardtanh_backward.default: hardtanh_backward,
    aten.silu_backward.default: silu_backward,
    aten.avg_pool2d_backward.default: avg_pool2d_backward,
    aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool2d_backward,
}
