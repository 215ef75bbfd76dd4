"""Each augmentation changes pictures as documented."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from training.imaging.augmentation import Augmentation
from training.imaging.distortion import Distortion
from training.imaging.picture_transforms import PictureTransforms
from training.imaging.preprocessing import Input, Pixels, to_pil_image
from training.imaging.random_move import MOVES, RandomMove, make_matrices

GRAY = Input("L", 28, 28, 28, mean=(0.0,), std=(1.0,))


def change(augment: Augmentation, pixels: Pixels, spec: Input = GRAY) -> list[torch.Tensor]:
    """The changed pictures (C, H, W), each by its own random numbers."""
    torch.manual_seed(0)
    transforms = PictureTransforms(augment, spec)
    return list(transforms.finish([transforms.change(each) for each in pixels])[0])


def test_the_default_changes_nothing(grays: Pixels) -> None:
    """Pictures stay as they are, as uint8."""
    found = torch.stack(change(Augmentation(), grays)).permute(0, 2, 3, 1)
    assert torch.equal(found, torch.from_numpy(grays))


@pytest.mark.parametrize(
    "augment",
    [
        Augmentation(shift=0.1, rotate=10, scale=0.1, shear=0.1),
        Augmentation(rotate=40, scale=0.3, padding="reflection"),
        Augmentation(shift=0.2, padding="border"),
        Augmentation(elastic=0.03),
        Augmentation(brightness=0.5),
        Augmentation(resized_crop=0.2),
        Augmentation(rand_augment=20),
        Augmentation(trivial_augment=True),
        Augmentation(erase=1.0),
        Augmentation(fade=0.3, noise=0.1),
    ],
)
def test_pictures_differ_and_keep_their_shape_and_range(
    augment: Augmentation, grays: Pixels
) -> None:
    """Two copies of one picture become two pictures."""
    once, again = change(augment, np.repeat(grays[:1], 8, 0)), change(augment, grays)
    assert len({tuple(each.flatten().tolist()) for each in once}) > 1
    for each in [*once, *again]:
        assert each.shape == (1, 28, 28)
        assert each.min() >= 0
        assert each.max() <= 255


def test_turn_applies_one_of_eight_symmetries(grays: Pixels) -> None:
    """Every result is the original, mirrored or rotated by quarter turns."""
    found = change(Augmentation(turn=True), np.repeat(grays[:1], 64, 0))
    square = torch.from_numpy(grays[0, :, :, 0])
    allowed = [torch.rot90(s, k) for s in (square, square.t()) for k in range(4)]
    seen = {next(i for i, a in enumerate(allowed) if torch.equal(each[0], a)) for each in found}
    assert len(seen) == 8


@pytest.mark.parametrize(("padding", "least"), [("zeros", 0), ("border", 255), ("reflection", 255)])
def test_what_comes_in_from_outside_is_as_the_padding_says(
    padding: Literal["zeros", "border", "reflection"], least: int
) -> None:
    """A white picture stays white, but with zeros."""
    white = np.full((16, 28, 28, 1), 255, np.uint8)
    augment = Augmentation(shift=0.3, rotate=45, scale=0.4, padding=padding)
    assert min(int(each.min()) for each in change(augment, white)) == least


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_bent_pictures_are_moved_like_others(
    padding: Literal["zeros", "border", "reflection"],
) -> None:
    """With next to no bending, and the same random numbers, the result is that of Pillow."""
    rows, columns = np.mgrid[0:40, 0:60]
    pixels = (120 + 80 * np.sin(rows / 7) + 40 * np.cos(columns / 9)).astype(np.uint8)[..., None]
    moves = Augmentation(shift=0.1, rotate=30, scale=0.2, shear=0.2, padding=padding)
    numbers = torch.rand(4, MOVES, generator=torch.Generator().manual_seed(3))
    image = torch.from_numpy(pixels).permute(2, 0, 1).expand(4, 1, 40, 60)
    bending = Distortion(replace(moves, elastic=1e-9), 40, 60, (0.0,))
    bent, _ = bending.bend(image, None, numbers, torch.zeros(4, 2, 5, 5))
    transform = RandomMove(moves)
    for found, each in zip(bent, numbers, strict=True):
        matrix = make_matrices(moves, each[None].numpy(), 60, 40)[0]
        moved = transform.transform(to_pil_image(pixels), {"matrix": matrix})
        difference = np.abs(found[0].numpy() - np.asarray(moved))
        assert np.median(difference) < 1
        assert difference.mean() < 2  # zeros are mixed in at the edge


def test_fade_shrinks_the_range_and_keeps_its_order() -> None:
    """Black and white move inwards, by at most the given share."""
    halves = np.repeat(np.array([0, 255], np.uint8), 392).reshape(1, 28, 28, 1).repeat(64, 0)
    found = torch.stack(change(Augmentation(fade=0.3), halves)).flatten(1)
    black, white = found[:, 0], found[:, -1]
    assert black.min() >= 0
    assert 50 < black.max() <= 0.3 * 255
    assert 0.7 * 255 - 0.1 <= white.min() < 200
    assert white.max() <= 255


def test_noise_stays_in_range_and_differs_per_picture() -> None:
    """Its strength is random per picture, up to the given limit."""
    even = np.full((64, 28, 28, 1), 128, np.uint8)
    spread = (torch.stack(change(Augmentation(noise=0.1), even)) - 128).flatten(1).std(1)
    assert spread.max() <= 0.11 * 255
    assert spread.max() > 4 * spread.min()


def test_what_is_erased_is_the_mean(grays: Pixels) -> None:
    """So that it is 0 for the network."""
    spec = Input("L", 28, 28, 28, mean=(0.2,), std=(1.0,))
    for before, after in zip(grays, change(Augmentation(erase=1.0), grays, spec), strict=True):
        changed = after != torch.from_numpy(before).permute(2, 0, 1)
        assert (after[changed] == 51).all()


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_crop_of_a_large_jpeg_is_decoded_at_a_fraction(tmp_path: Path, orientation: int) -> None:
    """It shows the same as the crop of the whole picture, also if EXIF turns it."""
    rows, columns = np.mgrid[0:800, 0:1200]
    pixels = np.stack([rows / 800, columns / 1200, 0 * rows], 2) * 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "1.jpg", exif=exif, quality=95)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "1.png", exif=exif)
    transforms = PictureTransforms(Augmentation(resized_crop=0.1), Input("RGB", 32, 32, 32))
    for seed in range(8):
        torch.manual_seed(seed)
        half = transforms.change_file(tmp_path / "1.jpg").pixels.numpy().astype(float)
        torch.manual_seed(seed)
        whole = transforms.change_file(tmp_path / "1.png").pixels.numpy().astype(float)
        assert half.shape == whole.shape == (3, 32, 32)
        assert np.abs(half - whole).mean() < 2
