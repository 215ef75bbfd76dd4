"""Which class a map of a mask explains, and whose logits: of which pixels.

The same functions serve torch in eager mode and the traced graph. Knows nothing of layers.
"""

import torch

Tensor = torch.Tensor

TARGET_CLASS = -1  # of a region: the pixels that were predicted as the target
ANY_CLASS = -2  # of a region: all pixels
TOP_1 = -1  # of a target: the class with most pixels in the box


def split_classes(mask: Tensor, logits: Tensor) -> Tensor:
    """Whether each pixel of a mask (N, H, W) has each class: (N, K, H, W), as numbers."""
    classes = torch.arange(logits.shape[1], device=mask.device)
    return (mask[:, None] == classes[:, None, None]).to(logits.dtype)


def choose_pixels(
    mask: Tensor,  # (N, H, W): the class of each pixel
    each: Tensor,  # (N, K, H, W): the same, as `split_classes` returns it
    target: Tensor,  # (N, T): classes, or -1
    region: Tensor,  # (N, T, 5): of, left, top, right, bottom; in input pixels, half-open
    background: int | None,
) -> tuple[Tensor, Tensor]:
    """The targets as classes (N, T), and the explained pixels: (N, T, H, W) bool."""
    box = draw_boxes(region, *each.shape[2:])  # (N, T, H, W)
    target = torch.where(target < 0, find_top1(each, box, background), target)
    of = region[:, :, 0]
    of = torch.where(of == TARGET_CLASS, target, of)[:, :, None, None]
    return target, box & ((of == ANY_CLASS) | (mask[:, None] == of))


def draw_boxes(region: Tensor, height: int, width: int) -> Tensor:
    """Whether each pixel is in the box: (N, T, H, W) bool."""
    left, top, right, bottom = (region[:, :, i, None] for i in range(1, 5))  # (N, T, 1)
    y = torch.arange(height, device=region.device)
    x = torch.arange(width, device=region.device)
    rows, columns = (y >= top) & (y < bottom), (x >= left) & (x < right)
    return rows[..., None] & columns[:, :, None]


def find_top1(each: Tensor, box: Tensor, background: int | None) -> Tensor:
    """The class with most pixels in the box: (N, T). The background only if there is no other."""
    (n, t, height, width), k = box.shape, each.shape[1]
    boxes = box.to(each.dtype).reshape(n, t, height * width)
    counts = boxes @ each.reshape(n, k, height * width).transpose(1, 2)  # (N, T, K)
    if background is not None:
        classes = torch.arange(k, device=each.device)
        least = counts.clamp(max=0.5)  # fewer than one pixel of another class
        counts = torch.where(classes == background, least, counts)
    return counts.argmax(2)


def make_cotangent(target: Tensor, pixels: Tensor, logits: Tensor) -> Tensor:
    """The gradient of the explained sum at the logits: (N, T, K, H, W)."""
    classes = torch.arange(logits.shape[1], device=target.device)
    chosen = (target[..., None] == classes).to(logits.dtype)  # (N, T, K)
    return chosen[..., None, None] * pixels[:, :, None].to(logits.dtype)
