"""Each augmentation changes pictures as documented."""

import torch

from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Pixels


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_default_changes_nothing(grays: Pixels) -> None:
    """Pictures stay as they are, as float32."""
    image = torch.from_numpy(grays)
    assert torch.equal(Augmentation()(image, rng()), image.float())


def test_the_same_seed_gives_the_same_pictures(grays: Pixels) -> None:
    """Another seed gives other pictures."""
    distort = Augmentation(shift=0.1, rotate=10, scale=0.1, shear=0.1, elastic=0.03, brightness=0.2)
    image = torch.from_numpy(grays)
    once, again, other = (distort(image, rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.shape == image.shape
    assert once.min() >= 0
    assert once.max() <= 255


def test_turn_applies_one_of_eight_symmetries(grays: Pixels) -> None:
    """Every result is the original, mirrored or rotated by quarter turns."""
    image = torch.from_numpy(grays[:1]).repeat(64, 1, 1, 1)
    found = Augmentation(turn=True)(image, rng())
    square = image[0, :, :, 0].float()
    allowed = [torch.rot90(s, k) for s in (square, square.t()) for k in range(4)]
    seen = {next(i for i, a in enumerate(allowed) if torch.equal(row[:, :, 0], a)) for row in found}
    assert len(seen) == 8


def test_fade_shrinks_the_range_and_keeps_its_order() -> None:
    """Black and white move inwards, by at most the given share."""
    image = torch.tensor([0, 255]).repeat(64, 1).reshape(64, 2, 1, 1)
    black, white = Augmentation(fade=0.3)(image, rng())[:, :, 0, 0].unbind(1)
    assert black.min() >= 0
    assert 50 < black.max() <= 0.3 * 255
    assert 0.7 * 255 - 0.1 <= white.min() < 200
    assert white.max() <= 255


def test_noise_stays_in_range_and_differs_per_picture() -> None:
    """Its strength is random per picture, up to the given limit."""
    image = torch.full((64, 28, 28, 1), 128)
    spread = (Augmentation(noise=0.1)(image, rng()) - 128).flatten(1).std(1)
    assert spread.max() <= 0.11 * 255
    assert spread.max() > 4 * spread.min()
