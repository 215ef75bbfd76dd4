"""Decompositions of backward operations that the ONNX exporter lacks or translates wrongly.

Only gradients with respect to inputs: the weights are constants here. Knows nothing of Grad-CAM.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

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
    """A convolution with turned weights if sizes are kept, else a transposed one: (N, C, H, W).

    Of a transposed convolution it is a convolution.
    """
    if output_mask[1] or output_mask[2]:
        return NotImplemented
    if transposed:
        back = aten.convolution.default(
            gradient, weight, None, stride, padding, dilation, False, [0, 0], groups
        )
        return back, None, None
    size, kernel = image.shape[2:], weight.shape[2:]
    if groups == 1 and max(stride) == 1 and max(kernel) > 1 and gradient.shape[2:] == size:
        turned = weight.transpose(0, 1).flip(2, 3)  # (C, O, kh, kw)
        reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        back = aten.convolution.default(
            gradient, turned, None, stride, reach, dilation, False, [0, 0], 1
        )
        return back, None, None
    rest = find_output_padding(size, gradient.shape[2:], kernel, stride, padding, dilation)
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
    """Spread each output's gradient over its window.

    Windows that tile the picture are enlarged, others need a transposed convolution per channel.
    """
    kh, kw = expand_pair(kernel)
    strides = expand_pair(stride) if stride else (kh, kw)
    pads = expand_pair(padding)
    (height, width), (h, w) = image.shape[2:], gradient.shape[2:]
    if (kh, kw) == strides and (h * kh, w * kw) == (height, width) and not any(pads):
        share = gradient / (divisor or kh * kw)
        enlarged: Tensor = aten.upsample_nearest2d.default(share, [height, width], kh, kw)
        return enlarged
    if divisor is None and ((any(pads) and not count_include_pad) or ceil_mode):
        pool = Pool((kh, kw), strides, pads, ceil_mode, count_include_pad)
        gradient, scale = gradient / count_window_pixels(pool, image, gradient), 1.0
    else:
        scale = 1 / (divisor or kh * kw)
    n, c = gradient.shape[:2]
    weight = torch.full((1, 1, kh, kw), scale, dtype=gradient.dtype, device=gradient.device)
    rest = find_output_padding((height, width), (h, w), (kh, kw), strides, pads, (1, 1))
    back = aten.convolution.default(
        gradient.reshape(n * c, 1, h, w),
        weight,
        None,
        list(strides),
        list(pads),
        [1, 1],
        True,
        [max(r, 0) for r in rest],
        1,
    )  # (N C, 1, H, W)
    if min(rest) < 0:  # with ceil_mode the last window extends over the edge
        back = back[..., :height, :width]
    spread: Tensor = back.reshape(n, c, height, width)
    return spread


class Pool(NamedTuple):
    """How an average pool moves over a picture."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool
    count_include_pad: bool


def count_window_pixels(pool: Pool, image: Tensor, gradient: Tensor) -> Tensor:
    """The number of pixels that each window averages: (h, w)."""
    counts = []
    for axis, (kernel, stride, padding) in enumerate(zip(*pool[:3], strict=True)):
        size, windows = image.shape[2 + axis], gradient.shape[2 + axis]
        outside = padding if pool.count_include_pad else 0
        begin = torch.arange(windows, device=gradient.device) * stride - padding
        end = (begin + kernel).clamp(max=size + outside)
        counts.append((end - begin.clamp(min=-outside)).to(gradient.dtype))
    return counts[0][:, None] * counts[1]


def find_output_padding(
    size: Sequence[int],
    small: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> list[int]:
    """How many pixels of a picture of `size` a transposed convolution from `small` leaves out."""
    return [
        whole - ((n - 1) * s - 2 * p + d * (k - 1) + 1)
        for whole, n, k, s, p, d in zip(size, small, kernel, stride, padding, dilation, strict=True)
    ]


def adaptive_avg_pool2d_backward(gradient: Tensor, image: Tensor) -> Tensor:
    """Spread each output over its region, by one constant matrix for rows and one for columns."""
    (height, width), (h, w) = image.shape[2:], gradient.shape[2:]
    if (h, w) == (1, 1):
        return (gradient / (height * width)).expand(image.shape)
    rows, columns = (make_region_matrix(*sizes, gradient) for sizes in ((h, height), (w, width)))
    # A matrix for all rows is the second factor: onnxruntime does not repeat the first for no rows.
    back: Tensor = (gradient.mT @ rows).mT @ columns  # (N, C, H, W)
    return back


def make_region_matrix(small: int, size: int, like: Tensor) -> Tensor:
    """The weight of each of `size` inputs in each of `small` averages: (small, size)."""
    index = torch.arange(small, device=like.device)
    begin, end = index * size // small, -(-(index + 1) * size // small)
    at = torch.arange(size, device=like.device)
    inside = (at >= begin[:, None]) & (at < end[:, None])
    return inside.to(like.dtype) / (end - begin)[:, None].to(like.dtype)


def index_put(
    image: Tensor,  # (…, h, w)
    indices: Sequence[Tensor | None],
    values: Tensor,
    accumulate: bool = False,
) -> Any:
    """Add values at rows and columns, by one constant matrix for each: the gradient of enlarging.

    The exporter would scatter them. onnxruntime's ScatterND adds in several threads at once, and
    loses what two of them add to one place.
    """
    chosen = [index for index in indices if index is not None]
    is_last_two = len(indices) == image.ndim and [*indices[:-2]] == [None] * (image.ndim - 2)
    if not accumulate or not is_last_two or len(chosen) != 2:
        return NotImplemented
    axes = max(index.ndim for index in chosen)
    rows, columns = (index.reshape([1] * (axes - index.ndim) + [*index.shape]) for index in chosen)
    split = max((axis + 1 for axis in range(axes) if rows.shape[axis] != 1), default=0)
    if any(size != 1 for size in columns.shape[:split]):  # rows and columns depend on each other
        return NotImplemented
    (height, width), rest = image.shape[-2:], image.shape[:-2]
    spread = values.expand(*rest, *rows.shape[:split], *columns.shape[split:])
    spread = spread.reshape(*rest, rows.numel(), columns.numel()).mT
    down, across = (
        (index.reshape(-1, 1) % size == torch.arange(size, device=image.device)).to(values.dtype)
        for index, size in ((rows, height), (columns, width))
    )  # (rows, h), (columns, w)
    # As products of two matrices: those of more axes would repeat the constant ones per picture.
    count, h, w = math.prod(rest), rows.numel(), columns.numel()
    back = (spread.reshape(count * w, h) @ down).reshape(*rest, w, height).mT
    return image + (back.reshape(count * height, w) @ across).reshape(image.shape)


def avg_pool3d_backward(
    gradient: Tensor,  # (N, C, d, h, w)
    image: Tensor,  # (N, C, D, H, W)
    kernel: list[int],
    stride: list[int],
    padding: list[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor: int | None,
) -> Any:
    """As in two dimensions, where all windows have one size. LocalResponseNorm uses this pool."""
    if ceil_mode or (any(padding) and not count_include_pad):
        return NotImplemented
    kernel, stride, padding = ([*sizes] * (3 // len(sizes)) for sizes in (kernel, stride, padding))
    stride = stride or kernel
    n, c, *small = gradient.shape
    scale = 1 / (divisor or math.prod(kernel))
    weight = torch.full((1, 1, *kernel), scale, dtype=gradient.dtype, device=gradient.device)
    rest = find_output_padding(image.shape[2:], small, kernel, stride, padding, [1] * 3)
    each = gradient.reshape(n * c, 1, *small)
    back = aten.convolution.default(each, weight, None, stride, padding, [1] * 3, True, rest, 1)
    return back.reshape(image.shape)


def native_group_norm(
    image: Tensor,  # (N, C, …)
    weight: Tensor | None,  # (C,)
    bias: Tensor | None,
    n: int,
    c: int,
    places: int,
    groups: int,
    epsilon: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """A layer norm of each group. The exporter's own translation does not run on no pictures."""
    rows = image.reshape(n, groups, c // groups * places)
    normed, mean, scale = aten.native_layer_norm.default(
        rows, [c // groups * places], None, None, epsilon
    )
    out = normed.reshape(image.shape)
    each = (1, c, *[1] * (image.ndim - 2))
    out = out if weight is None else out * weight.reshape(each)
    out = out if bias is None else out + bias.reshape(each)
    return out, mean.reshape(n, groups), scale.reshape(n, groups)


def native_batch_norm_backward(
    gradient: Tensor,  # (N, C, …)
    image: Tensor,
    weight: Tensor | None,  # (C,)
    _mean: Tensor | None,
    variance: Tensor | None,
    _saved_mean: Tensor | None,
    _saved_scale: Tensor | None,
    train: bool,
    epsilon: float,
    output_mask: list[bool],
) -> Any:
    """One factor per channel: in evaluation mode the statistics are constants."""
    if train or variance is None or output_mask[1] or output_mask[2]:
        return NotImplemented
    scale = (variance + epsilon).rsqrt()
    scale = scale if weight is None else scale * weight
    return gradient * scale.reshape(-1, *[1] * (image.ndim - 2)), None, None


def hardtanh_backward(gradient: Tensor, image: Tensor, low: float, high: float) -> Tensor:
    """Zero at the bounds, as in torch; the exporter's own translation passes the gradient there."""
    return torch.where((image > low) & (image < high), gradient, 0.0)


def silu_backward(gradient: Tensor, image: Tensor) -> Tensor:
    """The gradient of x sigmoid(x)."""
    share = image.sigmoid()
    return gradient * share * (1 + image * (1 - share))


def mish_backward(gradient: Tensor, image: Tensor) -> Tensor:
    """The gradient of x tanh(softplus(x))."""
    share = F.softplus(image).tanh()
    return gradient * (share + image * image.sigmoid() * (1 - share * share))


def expand_pair(sizes: list[int]) -> tuple[int, int]:
    """Height and width of a size that may be given once for both."""
    return (sizes[0], sizes[-1])


DECOMPOSITIONS: dict[Any, Callable[..., Any]] = {
    aten.convolution_backward.default: convolution_backward,
    aten.native_batch_norm_backward.default: native_batch_norm_backward,
    aten.hardtanh_backward.default: hardtanh_backward,
    aten.silu_backward.default: silu_backward,
    aten.mish_backward.default: mish_backward,
    aten.avg_pool2d_backward.default: avg_pool2d_backward,
    aten.avg_pool3d_backward.default: avg_pool3d_backward,
    aten.native_group_norm.default: native_group_norm,
    aten._adaptive_avg_pool2d_backward.default: adaptive_avg_pool2d_backward,
    aten.index_put.default: index_put,
    aten._unsafe_index_put.default: index_put,
}
