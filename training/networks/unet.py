"""U-Net (Ronneberger et al. 2015) in its common modern form. Knows nothing of data or training."""

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from training.errors import UserError
from training.imaging.preprocessing import Input
from training.validation import CHECKED, Settings


@dataclass(frozen=True, config=CHECKED)
class UNetOptions(Settings):
    """What a config's `options` can change."""

    PREFIX: ClassVar[str] = "options."

    width: Annotated[int, Field(ge=1)] = 64  # channels at full size; each level has twice as many
    levels: Annotated[int, Field(ge=1, le=8)] = 4  # number of times that the size is halved
    batch_norm: bool = True
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # after the bottleneck


class UNet(nn.Module):
    """(N, C, H, W) to logits (N, K, H, W). The sides must be divisible by 2 ** levels.

    Unlike in the paper convolutions keep the size, so the mask is as large as the picture, and a
    batch-norm may follow each of them.
    """

    def __init__(self, classes: int = 2, channels: int = 3, /, **options: Any) -> None:
        super().__init__()
        chosen = UNetOptions(**options)
        norm = chosen.batch_norm
        widths = [chosen.width * 2**level for level in range(chosen.levels + 1)]
        self.levels = chosen.levels
        self.encoder = nn.ModuleList(
            make_block(before, after, norm)
            for before, after in zip([channels, *widths[:-2]], widths[:-1], strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = make_block(widths[-2], widths[-1], norm)  # the default target layer
        self.dropout = nn.Dropout2d(chosen.dropout)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, 2) for width in reversed(widths[:-1])
        )
        self.decoder = nn.ModuleList(
            make_block(2 * width, width, norm) for width in reversed(widths[:-1])
        )
        self.classifier = nn.Conv2d(widths[0], classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = self.pool(x)
        x = self.dropout(self.bottleneck(x))  # (N, 2 ** levels width, h, w)
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat([skips.pop(), up(x)], 1))
        logits: torch.Tensor = self.classifier(x)
        return logits  # (N, classes, H, W)


def make_block(before: int, after: int, batch_norm: bool) -> nn.Sequential:
    """Two 3x3 convolutions, each with a ReLU: (N, before, h, w) to (N, after, h, w)."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(nn.Conv2d(channels, after, 3, padding=1, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def check_sides(input_spec: Input, network: nn.Module) -> None:
    """Raise UserError if a U-Net cannot halve the sides of its pictures as often as it must."""
    if not isinstance(network, UNet):
        return
    step = 2**network.levels
    sides = {"height": input_spec.height, "width": input_spec.width}
    for name, side in sides.items():
        if side % step:
            below, above = side // step * step, -(-side // step) * step
            near = f"{below} or {above}" if below else str(above)
            raise UserError(
                f"A U-Net of {network.levels} levels needs sides that are divisible by {step}, got "
                f"{name} {side}. Take {near}, or fewer levels."
            )
