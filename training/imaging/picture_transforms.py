"""The random changes of training pictures, and of their masks, as an `Augmentation` says.

Most are torchvision's transforms v2, on one Pillow picture after the other, where they are the
fastest. `distortion` makes the others on a whole batch. All random numbers of a picture come from
torch's default generator while the picture is changed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2

from training.imaging.augmentation import Augmentation
from training.imaging.distortion import Distortion, Numbers
from training.imaging.preprocessing import Input, Pixels, to_pil_image
from training.imaging.random_crop import load_random_crop
from training.imaging.random_move import RandomMove


class ChangedPicture(NamedTuple):
    """A picture (C, H, W) uint8, its mask (H, W) uint8, and the numbers for what is left to do."""

    pixels: torch.Tensor
    mask: torch.Tensor | None
    numbers: Numbers


class PictureTransforms:
    """Changes pictures, and masks along with them."""

    def __init__(self, augment: Augmentation, input_spec: Input) -> None:
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
        height, width = (min(augment.crop or side, side) for side in (height, width))
        changes = list_changes(augment, height, width)
        self.changes = v2.Compose(changes) if changes else None
        self.distortion = Distortion(augment, height, width, input_spec.mean)

    def change(self, pixels: Pixels, mask: torch.Tensor | None = None) -> ChangedPicture:
        """Change pixels (H, W, C) of the network's size."""
        if self.resized_crop or self.changes:
            return self.change_picture(to_pil_image(pixels), mask)
        image = torch.from_numpy(pixels).permute(2, 0, 1)  # (C, H, W)
        return ChangedPicture(image, mask, self.distortion.draw())

    def change_picture(
        self, picture: Image.Image, mask: torch.Tensor | None = None
    ) -> ChangedPicture:
        """Change a whole picture, of any size if there is a random crop."""
        if self.resized_crop and mask is not None:
            picture, mask = self.resized_crop(picture, tv_tensors.Mask(mask))
        elif self.resized_crop:
            picture = self.resized_crop(picture)
        return self.change_cut(picture, mask)

    def change_file(self, path: Path) -> ChangedPicture:
        """Change a random crop of a file."""
        assert self.resized_crop is not None
        return self.change_cut(load_random_crop(path, self.mode, self.resized_crop), None)

    def change_cut(self, picture: Image.Image, mask: torch.Tensor | None) -> ChangedPicture:
        if self.changes and mask is not None:
            picture, mask = self.changes(picture, tv_tensors.Mask(mask))
        elif self.changes:
            picture = self.changes(picture)
        if mask is not None:
            mask = mask.as_subclass(torch.Tensor)
        pixels = v2.functional.pil_to_tensor(picture)  # (C, H, W) uint8
        return ChangedPicture(pixels, mask, self.distortion.draw())

    def finish(self, changed: Sequence[ChangedPicture]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The pictures (n, C, H, W) of a batch, and their masks (n, H, W) uint8."""
        pixels = torch.stack([each.pixels for each in changed])
        masks = [each.mask for each in changed if each.mask is not None]
        mask = torch.stack(masks) if masks else None
        return self.distortion.apply(pixels, mask, [each.numbers for each in changed])


def list_changes(augment: Augmentation, height: int, width: int) -> list[v2.Transform]:
    """The transforms of v2, in their order, for pictures of one size."""
    changes: list[v2.Transform] = []
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
    if augment.moves and not augment.elastic:  # bending moves the picture as well
        changes.append(RandomMove(augment))
    if augment.brightness:
        changes.append(v2.ColorJitter(augment.brightness, augment.brightness))
    return changes
