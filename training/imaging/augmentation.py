"""Random augmentation of a whole batch at once, in torch. Knows nothing of labels or models."""

from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass

from training.validation import CHECKED, Settings

Strength = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


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

    def __call__(self, image: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        """Augment (N, H, W, C) of 0..255 and any dtype; returns the same shape as float32."""
        x = image.permute(0, 3, 1, 2).float()  # (N, C, H, W)
        if self.turn:
            x = apply_random_symmetry(x, rng)
        if self.flip:
            x = torch.where(sample_uniform(x, 1, rng) > 0, x.flip(3), x)
        if self.shift or self.rotate or self.scale or self.shear or self.elastic:
            x = F.grid_sample(
                x, self.make_sampling_grid(x, rng), padding_mode=self.padding, align_corners=False
            )
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
        return x.permute(0, 2, 3, 1)

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
