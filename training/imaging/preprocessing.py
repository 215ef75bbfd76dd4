"""From a picture file to the pixels a network sees: decoding, mode, resize and crop.

Torchvision does the geometry on Pillow images, so that whoever repeats it with Pillow alone gets
the same pixels. Scaling and normalisation are not here: they are the network's first layer.
"""

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as geometry

from training.errors import UserError

Pixels = NDArray[np.uint8]

# What networks and graphs make of pixels (N, H, W, C).
Predictor = Callable[[Pixels], NDArray[np.float32]]  # (N, K), of logits or probabilities
GraphOutputs = list[NDArray[np.float32]]  # logits (N, K), probabilities (N, K), cam (N, T, h, w)
GraphRunner = Callable[
    [Pixels, NDArray[np.int64]], GraphOutputs
]  # an exported graph, given targets (N, T)


@dataclass(frozen=True)
class Input:
    """What a network takes: how a picture becomes pixels, and how pixels become numbers."""

    mode: str = "RGB"  # "L" or "RGB"
    height: int = 224
    width: int = 224
    resize: int | None = 256  # the shorter side; None squashes to height x width
    crop: str | None = "center"
    interpolation: str = "bilinear"
    # Inside the graph from here on; one value a channel.
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    dark_on_light: bool = False  # invert a picture whose mean is above one half

    @property
    def channels(self) -> int:
        return 1 if self.mode == "L" else 3

    def to_card(self) -> dict[str, Any]:
        """The part that whoever feeds the graph must know."""
        return {
            "mode": self.mode,
            "height": self.height,
            "width": self.width,
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
        }


def load_pixels(source: Path | bytes, geometry: Input) -> Pixels:
    """The pixels of one encoded picture: (H, W, C) uint8."""
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            image.load()
            return resize_and_crop(convert_mode(image, geometry.mode), geometry)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as fault:
        name = "these bytes" if isinstance(source, bytes) else str(source)
        raise UserError(f"{name} can't be read as a picture: {fault}") from fault


def convert_mode(image: Image.Image, mode: str) -> Image.Image:
    """EXIF orientation applied, alpha composed on white, in the network's mode."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 or 32 bits: down to 8 instead of clipping
        wide = np.asarray(image, np.float64)
        image = Image.fromarray((wide / (257 if wide.max() > 255 else 1)).clip(0, 255).astype("u1"))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB")
    return image.convert(mode)


def resize_and_crop(image: Image.Image, wanted: Input) -> Pixels:
    """Resized and cropped to the network's size: (H, W, C) uint8."""
    how = InterpolationMode(wanted.interpolation)
    if wanted.resize is None:
        image = geometry.resize(image, [wanted.height, wanted.width], how)
    else:
        image = geometry.resize(image, [wanted.resize], how)
        image = geometry.center_crop(image, [wanted.height, wanted.width])
    return np.asarray(image, np.uint8).reshape(wanted.height, wanted.width, wanted.channels)


def to_pil_image(pixels: Pixels) -> Image.Image:
    """Pixels (H, W, C) as Pillow has them: gray without a channel of its own."""
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


class Preprocessing(torch.nn.Module):
    """The network's first layer: 0..255 pixels to normalised numbers.

    Takes (N, H, W, C), uint8 or already float; gives (N, C, H, W) float32.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, wanted: Input) -> None:
        super().__init__()
        self.dark_on_light = wanted.dark_on_light
        self.shifted = any(wanted.mean)
        shape = (1, wanted.channels, 1, 1)
        self.register_buffer("mean", 255 * torch.tensor(wanted.mean).reshape(shape), False)
        self.register_buffer("scale", 1 / (255 * torch.tensor(wanted.std).reshape(shape)), False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2).contiguous().to(self.mean.dtype)  # (N, C, H, W)
        if self.dark_on_light:
            bright = x.mean((1, 2, 3), keepdim=True) > 127.5  # (N, 1, 1, 1)
            x = torch.where(bright, 255 - x, x)
        if self.shifted:
            x = x - self.mean
        return x * self.scale
