"""Random augmentation of a whole batch at once, in torch. Knows nothing of labels or models.

Masks move along with their pictures. What comes into a mask from outside the picture is ignored.
"""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass

from training.validation import CHECKED, Settings

Strength = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
IGNORED = 255  # value of pixels of a mask that no loss and no figure counts


@dataclass(frozen=True, config=CHECKED)
class Augmentation(Settings):
    """The strength of each augmentation. With all at zero, pictures stay as they are."""

    PREFIX: ClassVar[str] = "augment."

    shift: Share = 0.0  # at most this share of the side
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.0  # 0.1: between 0.9 and 1.1
    shear: Strength = 0.0
    elastic: Strength = 0.0  # of the side
    flip: bool = False  # mirror left and right
    turn: bool = False  # quarter turns and both flips, for pictures without an upright direction
    brightness: Share = 0.0  # 0.2: brightness and contrast between 0.8 and 1.2
    fade: Share = 0.0  # 0.3: move black and white up to 0.3 of the range inwards, as on gray paper
    noise: Share = 0.0  # largest standard deviation, as a share of the range
    padding: Literal["zeros", "border", "reflection"] = "zeros"
    crop: Annotated[int, Field(ge=0)] = 0  # train on random square cuts of this side; 0: on all

    def __call__(self, image: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Augment (N, H, W, C) of 0..255 and any dtype; returns the same shape as float32."""
        x = self.distort_colors(self.move(image.permute(0, 3, 1, 2).float(), rng), rng)
        return x.permute(0, 2, 3, 1)

    def augment_with_masks(
        self, image: torch.Tensor, mask: torch.Tensor, rng: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same for pictures with masks (N, H, W) uint8: colours change in the pictures only."""
        channels = image.shape[3]
        # Outside is 0 for the sampling: so is what a mask ignores.
        inverted = (IGNORED - mask.float())[:, None]
        both = torch.cat([image.permute(0, 3, 1, 2).float(), inverted], 1)  # (N, C + 1, H, W)
        moved = self.move(self.cut(both, rng), rng, 1)
        moved_mask = (IGNORED - moved[:, channels]).round().to(torch.uint8)
        return self.distort_colors(moved[:, :channels], rng).permute(0, 2, 3, 1), moved_mask

    def cut(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """A random square of each picture (N, C, H, W), if they are larger than `crop`."""
        h, w = (min(self.crop or side, side) for side in x.shape[2:])
        if (h, w) == x.shape[2:]:
            return x
        places = [
            torch.randint(whole - side + 1, (len(x),), generator=rng, device=x.device).tolist()
            for whole, side in zip(x.shape[2:], (h, w), strict=True)
        ]
        rows = zip(x, *places, strict=True)
        return torch.stack([row[:, top : top + h, left : left + w] for row, top, left in rows])

    def move(self, x: torch.Tensor, rng: torch.Generator, masks: int = 0) -> torch.Tensor:
        """Move the pixels of (N, C, H, W). The last `masks` channels are never interpolated."""
        if self.turn:
            x = apply_random_symmetry(x, rng)
        if self.flip:
            x = torch.where(sample_uniform(x, 1, rng) > 0, x.flip(3), x)
        if self.shift or self.rotate or self.scale or self.shear or self.elastic:
            grid = self.make_sampling_grid(x, rng)
            ways = {"bilinear": x[:, : x.shape[1] - masks], "nearest": x[:, x.shape[1] - masks :]}
            x = torch.cat(
                [
                    F.grid_sample(part, grid, how, self.padding, align_corners=False)
                    for how, part in ways.items()
                    if part.shape[1]
                ],
                1,
            )
        return x

    def distort_colors(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Change the colours of pictures (N, C, H, W) of 0..255."""
        if self.brightness:
            middle = x.mean((1, 2, 3), keepdim=True)
            contrast = 1 + sample_uniform(x, self.brightness, rng)
            level = 1 + sample_uniform(x, self.brightness, rng)
            x = (((x - middle) * contrast + middle) * level).clamp(0, 255)
        if self.fade:
            black, white = (sample_uniform(x, self.fade, rng).abs() for _ in range(2))
            x = 255 * black + x * (1 - black - white)
        if self.noise:
            strength = 255 * sample_uniform(x, self.noise, rng)
            grain = torch.randn(x.shape, generator=rng, device=x.device)
            x = (x + strength * grain).clamp(0, 255)
        return x

    def make_sampling_grid(self, x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Where each output pixel is sampled from: (N, H, W, 2) in -1..1."""
        n = len(x)
        angle = sample_uniform(x, self.rotate, rng).view(n).deg2rad()
        zoom = 1 + sample_uniform(x, self.scale, rng).view(n)
        shear = sample_uniform(x, self.shear, rng).view(n)
        cos, sin = angle.cos() * zoom, angle.sin() * zoom
        dx, dy = (2 * sample_uniform(x, self.shift, rng).view(n) for _ in range(2))
        affine = torch.stack(
            [torch.stack([cos, shear - sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1
        )  # (N, 2, 3)
        grid = F.affine_grid(affine, list(x.shape), align_corners=False)  # (N, H, W, 2)
        if self.elastic:
            coarse = torch.randn(n, 2, 5, 5, generator=rng, device=x.device) * 2 * self.elastic
            smooth = F.interpolate(coarse, x.shape[2:], mode="bicubic", align_corners=True)
            grid = grid + smooth.permute(0, 2, 3, 1)
        return grid


def sample_uniform(x: torch.Tensor, spread: float, rng: torch.Generator) -> torch.Tensor:
    """A uniform random number in -spread..spread per picture: (N, 1, 1, 1)."""
    return (2 * torch.rand(len(x), 1, 1, 1, generator=rng, device=x.device) - 1) * spread


def apply_random_symmetry(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Apply one of the square's eight symmetries to each picture (N, C, H, W)."""
    x = torch.where(sample_uniform(x, 1, rng) > 0, x.flip(2), x)
    x = torch.where(sample_uniform(x, 1, rng) > 0, x.flip(3), x)
    if x.shape[2] == x.shape[3]:
        x = torch.where(sample_uniform(x, 1, rng) > 0, x.transpose(2, 3), x)
    return x
