"""Each decomposition gives the gradient that torch gives."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from training.gradcam.decompositions import (
    adaptive_avg_pool2d_backward,
    avg_pool2d_backward,
    avg_pool3d_backward,
    convolution_backward,
    hardtanh_backward,
    index_put,
    mish_backward,
    native_group_norm,
    silu_backward,
)

Call = Callable[[torch.Tensor], torch.Tensor]


def gradient(call: Call, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A random cotangent of the call, and torch's gradient for it."""
    image = image.clone().requires_grad_()
    output = call(image)
    cotangent = torch.randn_like(output)
    (expected,) = torch.autograd.grad(output, image, cotangent)
    return cotangent, expected


@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2), (2, 2)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(
    stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], groups: int
) -> None:
    """Strides may leave a rest, and padding may keep the size; dilation and groups vary."""
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, (3, 5), stride, padding, dilation, groups).double()
    image = torch.randn(2, 4, 12, 11).double()
    cotangent, expected = gradient(conv, image)
    found = convolution_backward(
        cotangent,
        image,
        conv.weight,
        None,
        list(stride),
        list(padding),
        list(dilation),
        False,
        [0, 0],
        groups,
        [True, False, False],
    )[0]
    assert torch.allclose(expected, found)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "ceil", "count"),
    [
        (2, 2, 0, False, True),
        (3, 2, 0, False, True),
        (3, 2, 1, False, True),
        (3, 2, 1, False, False),
        (2, 3, 0, False, True),
        (3, 2, 0, True, True),
        (3, 2, 1, True, False),
        (3, 1, 1, False, False),
    ],
)
def test_average_pool(kernel: int, stride: int, padding: int, ceil: bool, count: bool) -> None:
    """Windows may overlap, be padded, leave a rest or extend over the edge."""
    torch.manual_seed(0)
    image = torch.randn(2, 3, 10, 12).double()
    cotangent, expected = gradient(
        lambda x: F.avg_pool2d(x, kernel, stride, padding, ceil, count), image
    )
    found = avg_pool2d_backward(cotangent, image, [kernel], [stride], [padding], ceil, count, None)
    assert torch.allclose(expected, found)


@pytest.mark.parametrize("size", [(1, 1), (3, 4), (7, 7), (12, 5)])
def test_adaptive_average_pool(size: tuple[int, int]) -> None:
    """The output may be 1x1, smaller, uneven, or larger than the input."""
    torch.manual_seed(0)
    image = torch.randn(2, 3, 10, 7).double()
    cotangent, expected = gradient(lambda x: F.adaptive_avg_pool2d(x, size), image)
    assert torch.allclose(expected, adaptive_avg_pool2d_backward(cotangent, image))


def test_hardtanh_has_no_gradient_at_its_bounds() -> None:
    """Torch gives none there either."""
    image = torch.tensor([-1.0, 0.0, 0.5, 6.0, 7.0])
    cotangent, expected = gradient(lambda x: F.hardtanh(x, 0, 6), image)
    assert torch.equal(expected, hardtanh_backward(cotangent, image, 0, 6))


def test_silu() -> None:
    """Inputs are on both sides of zero, at zero and far from it."""
    image = torch.linspace(-30, 30, 121).double()
    cotangent, expected = gradient(F.silu, image)
    assert torch.allclose(expected, silu_backward(cotangent, image), atol=1e-15)


@pytest.mark.parametrize(("kernel", "padding"), [((3, 1, 1), (0, 0, 0)), ((2, 2, 3), (1, 0, 1))])
def test_average_pool_in_three_dimensions(
    kernel: tuple[int, int, int], padding: tuple[int, int, int]
) -> None:
    """LocalResponseNorm averages over channels, as a third dimension."""
    torch.manual_seed(0)
    image = torch.randn(2, 3, 6, 5, 7).double()
    cotangent, expected = gradient(lambda x: F.avg_pool3d(x, kernel, 1, padding), image)
    found = avg_pool3d_backward(
        cotangent, image, list(kernel), [1], list(padding), False, True, None
    )
    assert torch.allclose(expected, found)


@pytest.mark.parametrize("affine", [True, False])
def test_group_norm(affine: bool) -> None:
    """The output, and the mean and scale that its gradient uses, are torch's."""
    torch.manual_seed(0)
    image = torch.randn(2, 6, 5, 3).double()
    weight, bias = torch.randn(2, 6).double() if affine else (None, None)
    arguments = (image, weight, bias, 2, 6, 15, 3, 1e-5)
    for expected, found in zip(
        torch.ops.aten.native_group_norm(*arguments), native_group_norm(*arguments), strict=True
    ):
        assert torch.allclose(expected, found)


def test_mish() -> None:
    """Inputs are on both sides of zero, at zero and far from it."""
    image = torch.linspace(-30, 30, 121).double()
    cotangent, expected = gradient(F.mish, image)
    assert torch.allclose(expected, mish_backward(cotangent, image), atol=1e-15)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (torch.tensor([[0], [2], [2], [-1]]), torch.tensor([1, 1, 0])),
        (torch.tensor([[[[0]], [[3]]], [[[1]], [[3]]]]), torch.tensor([[0, 1, 1], [4, 0, 1]])),
    ],
)
def test_values_are_added_at_rows_and_columns(rows: torch.Tensor, columns: torch.Tensor) -> None:
    """Several at one place, as where a picture is enlarged or its windows overlap."""
    torch.manual_seed(0)
    image = torch.randn(2, 3, 4, 5)
    places = [None, None, rows, columns]
    values = torch.randn(image[:, :, rows, columns].shape)
    expected = torch.ops.aten.index_put.default(image, places, values, True)
    assert torch.allclose(index_put(image, places, values, True), expected, atol=1e-6)


def test_other_places_are_left_to_the_exporter() -> None:
    """Where rows and columns depend on each other, or the values replace what is there."""
    image, at = torch.zeros(1, 1, 4, 4), torch.tensor([0, 1])
    values = torch.ones(1, 1, 2)
    assert index_put(image, [None, None, at, at], values, True) is NotImplemented
    assert index_put(image, [None, None, at[:, None], at], values, False) is NotImplemented
    assert index_put(image, [at[:1]], image[:1], True) is NotImplemented
