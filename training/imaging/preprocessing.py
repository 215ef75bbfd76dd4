"""From a picture file to the pixels that a network reads: decoding, mode, resize and crop.

Torchvision resizes and crops Pillow images, so a server that uses Pillow alone gets the same
pixels. Scaling and normalisation happen in `Preprocessing`, the network's first layer.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from pydantic.dataclasses import dataclass
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as geometry

from training.imaging.decoding import decode_picture
from training.validation import CHECKED, Settings

Pixels = NDArray[np.uint8]
IGNORED = 255  # value of pixels of a mask that no loss and no figure counts

# Functions of pixels (N, H, W, C).
Predictor = Callable[[Pixels], NDArray[np.float32]]  # logits or probabilities (N, K)
GraphOutputs = list[NDArray[np.float32]]  # logits (N, K), probabilities (N, K), cam (N, T, h, w)
GraphRunner = Callable[
    [Pixels, NDArray[np.int64]], GraphOutputs
]  # an exported graph, given targets (N, T)


Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Side = Annotated[int, Field(ge=1)]  # in pixels


@dataclass(frozen=True, config=CHECKED)
class Input(Settings):
    """What a network reads: how a picture becomes pixels, and how pixels are normalised."""

    PREFIX: ClassVar[str] = "input."

    mode: Literal["L", "RGB"] = "RGB"
    height: Side = 224
    width: Side = 224
    resize: Side | None = 256  # length of the shorter side; None: squash to height x width
    crop: Literal["center"] | None = "center"
    interpolation: Interpolation = "bilinear"
    # The fields below are applied inside the graph; one value per channel.
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (0.229, 0.224, 0.225)
    dark_on_light: bool = False  # invert a picture whose mean is above one half

    @property
    def channels(self) -> int:
        return 1 if self.mode == "L" else 3

    def to_card(self) -> dict[str, Any]:
        """The fields that a client of the graph must apply, for the card's `input`."""
        return {
            "mode": self.mode,
            "height": self.height,
            "width": self.width,
            "resize": self.resize,
            "crop": self.crop,
            "interpolation": self.interpolation,
        }


def load_pixels(source: Path | bytes, geometry: Input) -> Pixels:
    """Decode one picture to pixels (H, W, C) uint8, with EXIF orientation, resize and crop.

    Raises:
        UserError: the picture cannot be decoded. The sentence names the file.
    """
    return resize_and_crop(decode_picture(source, geometry.mode), geometry)


def resize_and_crop(image: Image.Image, input_spec: Input) -> Pixels:
    """Resize and crop to the network's size: (H, W, C) uint8."""
    how = InterpolationMode(input_spec.interpolation)
    if input_spec.resize is None:
        image = geometry.resize(image, [input_spec.height, input_spec.width], how)
    else:
        image = geometry.resize(image, [input_spec.resize], how)
        image = geometry.center_crop(image, [input_spec.height, input_spec.width])
    return np.asarray(image, np.uint8).reshape(
        input_spec.height, input_spec.width, input_spec.channels
    )


def to_pil_image(pixels: Pixels) -> Image.Image:
    """Pixels (H, W, C) as a Pillow image; gray pictures lose their channel axis."""
    return Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)


class Preprocessing(torch.nn.Module):
    """The network's first layer: pixels of 0..255 become normalised numbers.

    Takes (N, H, W, C) uint8 or float and returns (N, C, H, W) float32.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, input_spec: Input) -> None:
        super().__init__()
        self.dark_on_light = input_spec.dark_on_light
        self.shifted = any(input_spec.mean)
        shape = (1, input_spec.channels, 1, 1)
        self.register_buffer("mean", 255 * torch.tensor(input_spec.mean).reshape(shape), False)
        self.register_buffer(
            "scale", 1 / (255 * torch.tensor(input_spec.std).reshape(shape)), False
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = image.permute(0, 3, 1, 2).contiguous().to(self.mean.dtype)  # (N, C, H, W)
        if self.dark_on_light:
            bright = x.mean((1, 2, 3), keepdim=True) > 127.5  # (N, 1, 1, 1)
            x = torch.where(bright, 255 - x, x)
        if self.shifted:
            x = x - self.mean
        return x * self.scale
