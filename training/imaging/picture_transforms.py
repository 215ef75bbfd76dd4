"""The random changes of one training picture, and of its mask, as an `Augmentation` says.

Most are torchvision's transforms v2, on Pillow's pictures, where they are the fastest. Bending,
fading and noise are our own: v2 has none, or takes 20 times as long. All random numbers come from
torch's default generator.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from training.imaging.augmentation import IGNORED, Augmentation
from training.imaging.preprocessing import Input
from training.imaging.random_crop import load_random_crop
from training.imaging.random_move import RandomMove

BENDS = 5  # per side: the points that elastic bending moves


class PictureTransforms:
    """Changes pictures, and masks along with them."""

    def __init__(self, augment: Augmentation, input_spec: Input) -> None:
        self.augment = augment
        self.mode = input_spec.mode
        height, width = input_spec.height, input_spec.width
        self.resized_crop = None
        if augment.resized_crop:
            shape = width / height
            self.resized_crop = v2.RandomResizedCrop(
                (height, width),
                (augment.resized_crop, 1.0),
                (shape * 3 / 4, shape * 4 / 3),
                InterpolationMode(input_spec.interpolation),
            )
        cut = [min(augment.crop or side, side) for side in (height, width)]
        self.changes = v2.Compose(list_changes(augment, cut[0], cut[1]))
        mean = [255 * value for value in input_spec.mean]
        self.erase = v2.RandomErasing(augment.erase, value=mean)
        self.spread = upsample(cut[0]), upsample(cut[1])
        rows, columns = ((torch.arange(side) * 2 + 1) / side - 1 for side in cut)
        self.places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), 2)  # (H, W, 2)

    def crop_file(self, path: Path) -> Image.Image:
        """A random crop of a file in the network's size."""
        assert self.resized_crop is not None
        return load_random_crop(path, self.mode, self.resized_crop)

    def crop(
        self, picture: Image.Image, mask: torch.Tensor | None
    ) -> tuple[Image.Image, torch.Tensor | None]:
        """A random crop of a picture and of its mask, if the settings say so."""
        if self.resized_crop is None:
            return picture, mask
        if mask is None:
            return self.resized_crop(picture), None
        cropped: tuple[Image.Image, torch.Tensor] = self.resized_crop(
            picture, tv_tensors.Mask(mask)
        )
        return cropped

    def __call__(
        self, picture: Image.Image, mask: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The changed picture (C, H, W), and the changed mask (H, W) uint8."""
        if mask is None:
            picture = self.changes(picture)
        else:
            picture, mask = self.changes(picture, tv_tensors.Mask(mask))
            mask = mask.as_subclass(torch.Tensor)
        pixels = v2.functional.pil_to_tensor(picture)  # (C, H, W) uint8
        pixels, mask = self.bend(pixels, mask)
        return self.erase(self.distort_colors(pixels)), mask

    def bend(
        self, x: torch.Tensor, mask: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Move the pixels smoothly, in other directions in other places."""
        if not self.augment.elastic:
            return x, mask
        high, wide = self.spread  # (H, 5), (W, 5)
        coarse = torch.randn(2, BENDS, BENDS) * 2 * self.augment.elastic
        moves = high @ coarse @ wide.T  # (2, H, W) in -1..1
        grid = (self.places + moves.permute(1, 2, 0))[None]  # (1, H, W, 2)
        bent = F.grid_sample(
            x[None].float(), grid, "bilinear", self.augment.padding, align_corners=False
        )[0].clamp(0, 255)
        if mask is None:
            return bent, None
        # Outside is 0 for the sampling: so is what a mask ignores.
        inverted = (IGNORED - mask.float())[None, None]
        moved = F.grid_sample(inverted, grid, "nearest", self.augment.padding, align_corners=False)
        return bent, (IGNORED - moved[0, 0]).round().to(torch.uint8)

    def distort_colors(self, x: torch.Tensor) -> torch.Tensor:
        """Fade a picture (C, H, W) of 0..255, and add noise."""
        if self.augment.fade:
            black, white = (torch.rand(2) * self.augment.fade).tolist()
            x = 255 * black + x * (1 - black - white)
        if self.augment.noise:
            strength = 255 * self.augment.noise * float(torch.rand(()))
            x = (x + strength * torch.randn(x.shape)).clamp(0, 255)
        return x


def list_changes(augment: Augmentation, height: int, width: int) -> list[v2.Transform]:
    """The transforms of v2, in their order, for pictures of one size."""
    changes: list[v2.Transform] = [v2.Identity()]  # a `Compose` of nothing is refused
    if augment.crop:
        changes.append(v2.RandomCrop((height, width)))
    if augment.turn:
        changes += [v2.RandomVerticalFlip(), v2.RandomHorizontalFlip()]
        if height == width:
            changes.append(v2.RandomApply([v2.RandomRotation((90, 90))]))
    if augment.flip:
        changes.append(v2.RandomHorizontalFlip())
    if augment.rand_augment:
        changes.append(v2.RandAugment(magnitude=augment.rand_augment))
    if augment.trivial_augment:
        changes.append(v2.TrivialAugmentWide())
    if augment.shift or augment.rotate or augment.scale or augment.shear:
        changes.append(RandomMove(augment))
    if augment.brightness:
        changes.append(v2.ColorJitter(augment.brightness, augment.brightness))
    return changes


def upsample(side: int) -> torch.Tensor:
    """The matrix (side, 5) that interpolates between the points of `bend`."""
    points = torch.eye(BENDS)[None, :, :, None]  # (1, 5, 5, 1)
    size = [side, 1]
    return F.interpolate(points, size, mode="bicubic", align_corners=True)[0, :, :, 0].T
