"""Makes the models and pictures for the measurements.

Everything is made from files of the repository, under `.cache/bench`. With `SIGHTGLASS_DATA`
ResNet-18 has trained weights, otherwise random ones of the same cost. It knows nothing about
servers.
"""

import io
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image, ImageOps

from loadtests.digits import draw_digit

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "bench"
MODELS = CACHE / "models"
DIGIT_MODELS = CACHE / "digit-models"
MASK_MODELS = CACHE / "mask-models"
PHOTOGRAPHS = ("dog_and_cat.jpg", "dragonfly.jpg", "parrot.jpg")
DIGITS = 64
SEED = 1


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures of one kind, and the model for them."""

    name: str
    model: str
    path: Path  # the model's file
    media_type: str
    files: tuple[bytes, ...]

    @cached_property
    def card(self) -> dict[str, Any]:
        """The card in the model's file."""
        return read_card(ort.InferenceSession(self.path, providers=["CPUExecutionProvider"]))

    @property
    def segments(self) -> bool:
        """Whether the model gives each pixel a class."""
        return self.card.get("task") == "segmentation"

    @property
    def labels(self) -> list[str]:
        """The labels of the model."""
        labels: list[str] = self.card["labels"]
        return labels


def make_digits() -> Pictures:
    """Different PNGs of 28 x 28 pixels."""
    source = random.Random(SEED)  # noqa: S311  # not used for secrets
    files = tuple(draw_digit(number % 10, source) for number in range(DIGITS))
    return Pictures("digit", "lenet5", find_model("lenet5"), "image/png", files)


def make_cells() -> Pictures:
    """The example of cells as PNGs of the model's size, turned and mirrored in every way."""
    files = []
    with Image.open(ROOT / "docs" / "examples" / "nuclei.png") as opened:
        image = opened.convert("RGB")
    for turned in (image, *(image.transpose(way) for way in Image.Transpose)):
        file = io.BytesIO()
        turned.save(file, "PNG")
        files.append(file.getvalue())
    path = find_model("nuclei", MASK_MODELS)
    return Pictures("mask", "nuclei", path, "image/png", tuple(files))


def read_card(session: ort.InferenceSession) -> dict[str, Any]:
    """Read the card in a model file."""
    card: dict[str, Any] = json.loads(session.get_modelmeta().custom_metadata_map["sightglass"])
    return card


def make_photographs(name: str, width: int, height: int) -> Pictures:
    """JPEGs of one size, made from the examples and their mirror images."""
    files = []
    for photograph in PHOTOGRAPHS:
        with Image.open(ROOT / "docs" / "examples" / photograph) as opened:
            image = ImageOps.fit(opened.convert("RGB"), (width, height))
        for shown in (image, ImageOps.mirror(image)):
            file = io.BytesIO()
            add_grain(shown).save(file, "JPEG", quality=85)
            files.append(file.getvalue())
    return Pictures(name, "resnet18", find_model("resnet18"), "image/jpeg", tuple(files))


def add_grain(image: Image.Image) -> Image.Image:
    """Add the noise of a camera. An enlarged picture without noise is too easy to decode."""
    noise = np.random.default_rng(SEED).normal(0, 3, (image.height, image.width, 1))
    pixels: NDArray[np.float64] = np.asarray(image) + noise  # (H, W, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def find_model(name: str, tree: Path = MODELS) -> Path:
    """The path of a model's file."""
    return tree / name / "1" / "model.onnx"


def make_models() -> None:
    """Make folders with LeNet-5, with the U-Net, and with LeNet-5 and ResNet-18 at 224 x 224.

    They are kept.
    """
    shutil.copytree(ROOT / "models" / "nuclei", MASK_MODELS / "nuclei", dirs_exist_ok=True)
    for tree in (DIGIT_MODELS, MODELS):
        shutil.copytree(ROOT / "models" / "lenet5", tree / "lenet5", dirs_exist_ok=True)
    if find_model("resnet18").exists():
        return
    import_network("resnet18", MODELS, "resnet18", "--weights", str(find_weights()))


def import_network(architecture: str, tree: Path, name: str, *options: str) -> None:
    """Import a torchvision network as version 1 of a model."""
    command = [sys.executable, "-m", "training", "import", architecture, "--to", str(tree)]
    command += ["--name", name, "--version", "1", *options]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603


def find_data() -> Path | None:
    """The folder of the data sets, if SIGHTGLASS_DATA names one."""
    folder = os.environ.get("SIGHTGLASS_DATA")
    return Path(folder) if folder else None


def find_weights() -> Path:
    """The trained weights if available, otherwise random ones from a fixed seed."""
    if data := find_data():
        trained = data / "weights" / "resnet18_imagenet.npz"
        if trained.exists():
            return trained
    import torch  # slow to import, and needed only once
    from torchvision.models import resnet18

    torch.manual_seed(SEED)
    path = CACHE / "resnet18_random.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = resnet18(weights=None).state_dict()
    np.savez(path, **{name: value.numpy() for name, value in state.items()})
    return path
