"""Picture files become pixels, and the network's first layer normalises them."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.imaging.preprocessing import Input, Pixels, Preprocessing, load_pixels
from training.networks.classifier import Classifier


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_dark_on_light_makes_negatives_equal(lenet: Classifier) -> None:
    """A picture and its negative have exactly the same logits."""
    digit = np.zeros((1, 28, 28, 1), np.uint8)
    digit[0, 6:22, 12:16] = 230
    light, dark = (lenet(torch.from_numpy(image)) for image in (digit, 255 - digit))
    assert torch.equal(light, dark)


def test_each_picture_is_inverted_by_its_own_mean() -> None:
    """A bright picture in the batch does not change a dark one."""
    wanted = Input("L", 2, 2, 2, mean=(0.0,), std=(1.0,), dark_on_light=True)
    rows = torch.tensor([[[[10], [20]], [[30], [40]]], [[[250], [250]], [[250], [200]]]]).byte()
    found = Preprocessing(wanted)(rows) * 255
    assert found.flatten().round().tolist() == [10, 20, 30, 40, 5, 5, 5, 55]


def test_mnist_is_never_inverted(data_dir: Path) -> None:
    """The mean of every digit is below one half."""
    from training.data.datasets import load_mnist
    from training.data.splits import SplitRules

    splits = load_mnist(SplitRules(0.1, 0, 0)).splits.values()
    assert max(split.pictures.mean((1, 2, 3)).max() for split in splits) < 127.5
    assert data_dir.is_dir()


def test_pixels_are_normalised_per_channel() -> None:
    """The result is (x / 255 - mean) / std as (N, C, H, W) float32."""
    wanted = Input("RGB", 1, 1, 1, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 0.2))
    found = Preprocessing(wanted)(torch.tensor([[[[51, 102, 255]]]], dtype=torch.uint8))
    assert found.shape == (1, 3, 1, 1)
    assert found.flatten().tolist() == pytest.approx([0.2, 0.8, 3.5], abs=1e-6)


def test_a_wide_picture_is_cropped_and_not_squashed() -> None:
    """The shorter side becomes `resize`, and both ends of the longer side are cut."""
    image = Image.new("L", (84, 56), 0)
    image.paste(255, (28, 0, 56, 56))  # the middle third
    found = load_pixels(encoded(image), Input("L", 28, 28, 28, mean=(0,), std=(1,)))
    assert found.shape == (28, 28, 1)
    assert (found[:, 8:20] > 250).all()
    assert (found[:, :6] < 5).all()


def test_without_resize_a_picture_is_squashed() -> None:
    """The result is exactly height x width."""
    wanted = Input("RGB", 10, 20, None, None)
    assert load_pixels(encoded(Image.new("RGB", (7, 90))), wanted).shape == (10, 20, 3)


def test_orientation_transparency_and_16_bits_are_applied() -> None:
    """The network sees the picture as a viewer shows it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.new("L", (40, 20), 0)
    lying.paste(255, (0, 0, 20, 20))  # its left half is the upright picture's top
    upright = load_pixels(encoded(lying, exif=exif), Input("L", 40, 20, None, None))
    assert upright[:15].min() > 250
    assert upright[25:].max() < 5
    clear = load_pixels(encoded(Image.new("RGBA", (9, 9), (0, 0, 0, 0))), Input())
    assert clear.min() == 255
    wide = Image.fromarray(np.full((9, 9), 40_000, np.uint16))
    assert load_pixels(encoded(wide), Input("L", 9, 9, 9)).max() == 156


def test_a_picture_of_the_right_size_keeps_its_pixels(grays: Pixels) -> None:
    """It is not resampled."""
    wanted = Input("L", 28, 28, 28)
    assert (load_pixels(encoded(Image.fromarray(grays[0, :, :, 0])), wanted) == grays[0]).all()
