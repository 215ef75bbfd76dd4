"""Which pixels a region stands for, compared with loops over pixels; and scores of masks."""

import numpy as np
import pytest
import torch
from PIL import Image

from training.errors import UserError
from training.fit.overlap import count_confusion, score_confusion
from training.gradcam.masks.pixels import choose_pixels, make_cotangent, split_classes
from training.imaging.augmentation import Augmentation
from training.imaging.picture_transforms import PictureTransforms
from training.imaging.preprocessing import Input
from training.networks.unet import UNet, check_sides


def find_expected(
    mask: np.ndarray, target: int, region: list[int], background: int | None, classes: int
) -> tuple[int, set[tuple[int, int]]]:
    """The class and the pixels of one region, by the words of the interface."""
    of, left, top, right, bottom = region
    height, width = mask.shape
    box = [
        (y, x)
        for y in range(height)
        for x in range(width)
        if left <= x < right and top <= y < bottom
    ]
    if target == -1:
        counts = [sum(mask[at] == k for at in box) for k in range(classes)]
        others = [k for k in range(classes) if k != background]
        if background is not None and counts[background] and not any(counts[k] for k in others):
            target = background
        else:
            target = max(
                others if background is not None else range(classes), key=counts.__getitem__
            )
    if of == -1:
        of = target
    return target, {at for at in box if of == -2 or mask[at] == of}


@pytest.mark.parametrize("background", [None, 0, 2])
def test_regions_are_those_of_the_interface(background: int | None) -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(40, 3, 5, 6)))
    logits[:8, 0] += 9  # pictures of background alone
    mask = logits.argmax(1)
    left, top = rng.integers(0, 6, (40, 4)), rng.integers(0, 5, (40, 4))
    right, bottom = left + rng.integers(0, 7, (40, 4)), top + rng.integers(0, 6, (40, 4))
    of, target = rng.integers(-2, 3, (40, 4)), rng.integers(-1, 3, (40, 4))
    region = np.stack([of, left, top, right, bottom], 2)
    each = split_classes(mask, logits)
    found, pixels = choose_pixels(
        mask, each, torch.from_numpy(target), torch.from_numpy(region), background
    )
    for row, column in np.ndindex(40, 4):
        expected, places = find_expected(
            mask[row].numpy(), int(target[row, column]), region[row, column].tolist(), background, 3
        )
        chosen = {(int(y), int(x)) for y, x in pixels[row, column].nonzero()}
        assert chosen == places
        if places or target[row, column] >= 0:
            assert found[row, column] == expected


def test_the_gradient_starts_with_one_for_each_pixel_of_the_class() -> None:
    pixels = torch.tensor([[[[True, False]], [[True, True]]]])
    cotangent = make_cotangent(torch.tensor([[2, 0]]), pixels, torch.zeros(1, 3, 1, 2))
    assert cotangent.shape == (1, 2, 3, 1, 2)
    assert cotangent[0, 0].tolist() == [[[0, 0]], [[0, 0]], [[1, 0]]]
    assert cotangent[0, 1].tolist() == [[[1, 1]], [[0, 0]], [[0, 0]]]


def test_scores_count_pixels_and_leave_out_those_to_ignore() -> None:
    truth = torch.tensor([[0, 0, 1, 1, 1, 255]], dtype=torch.uint8)
    answers = torch.tensor([[0, 1, 1, 1, 0, 1]])
    confusion = count_confusion(truth, answers, 3)
    assert confusion.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    scores = score_confusion(confusion)
    assert scores.iou[:2].tolist() == [1 / 3, 2 / 4]
    assert scores.dice[:2].tolist() == [2 / 4, 4 / 6]
    assert scores.iou[2].isnan()
    assert scores.miou == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert scores.pixel_accuracy == pytest.approx(3 / 5)


@pytest.mark.parametrize(
    "augment",
    [
        Augmentation(turn=True, rotate=30, scale=0.2, shift=0.2, crop=24),
        Augmentation(flip=True, elastic=0.03),
        Augmentation(resized_crop=0.3, rotate=20, padding="reflection"),
    ],
)
def test_masks_move_along_with_their_pictures(augment: Augmentation) -> None:
    """A picture that is its own mask still is after turns, cuts, and shifts by interpolation."""
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[4:20, 8:16] = 1
    picture = Image.fromarray((mask * 200).numpy()).convert("RGB")
    side = augment.crop or 32
    transforms = PictureTransforms(augment, Input("RGB", 32, 32, None, None))
    torch.manual_seed(0)
    moved, masks = transforms.finish([transforms.change_picture(picture, mask) for _ in range(12)])
    assert masks is not None
    assert moved.shape == (12, 3, side, side)
    assert masks.shape == (12, side, side)
    assert masks.dtype == torch.uint8
    inside, outside = (masks == value for value in (1, 0))
    picture_of = moved.permute(0, 2, 3, 1).float()
    assert picture_of[inside].mean() > 170  # the edge is interpolated in the picture alone
    assert picture_of[outside].mean() < 20
    assert set(masks.flatten().tolist()) <= {0, 1, 255}
    ignored = masks == 255  # padding
    assert bool(ignored.any()) == (augment.padding == "zeros")
    assert not ignored.any() or picture_of[ignored].mean() < 30


def test_a_side_that_cannot_be_halved_so_often_is_refused() -> None:
    network = UNet(2, 3, width=4, levels=3)
    assert network(torch.zeros(1, 3, 16, 24)).shape == (1, 2, 16, 24)
    with pytest.raises(UserError, match=r"divisible by 8, got width 28\. Take 24 or 32"):
        check_sides(Input("RGB", 16, 28, None, None), network)
