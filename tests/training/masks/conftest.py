"""Pictures of disks and squares with their masks, and one U-Net that was trained and exported."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from training.config import Config
from training.data.datasets import load_dataset
from training.data.mask_folder import MaskSplit
from training.export.checkpoint import CheckpointRequest, export_checkpoint
from training.fit.checkpoint import load_checkpoint
from training.fit.loop import fit
from training.imaging.augmentation import Augmentation
from training.imaging.preprocessing import Input
from training.networks.classifier import Classifier
from training.report.model_card import read_card

LABELS = ("background", "disk", "square")
SPEC = Input("RGB", 32, 48, None, None, mean=(0.3,) * 3, std=(0.3,) * 3)


def draw_shapes(rng: np.random.Generator, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """A noisy dark picture of a red disk and a green square, and its mask."""
    width, height = size
    picture = Image.fromarray(rng.integers(0, 60, (height, width, 3), np.uint8))
    mask = Image.new("L", size)
    for value, color in ((1, (200, 60, 40)), (2, (60, 200, 40))):
        side = int(rng.integers(height // 3, height // 2))
        left, top = (int(rng.integers(0, whole - side)) for whole in size)
        for image, fill in ((picture, color), (mask, value)):
            pen = ImageDraw.Draw(image)
            draw = pen.ellipse if value == 1 else pen.rectangle
            draw((left, top, left + side, top + side), fill=fill)
    return picture, mask


def write_pictures(folder: Path, count: int, seed: int = 0) -> None:
    """Pictures of 64 x 40 and 48 x 32 in `images`, and their masks in `masks`."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        picture, mask = draw_shapes(rng, (64, 40) if number % 2 else (48, 32))
        picture.save(folder / "images" / f"{number:02}.png")
        mask.save(folder / "masks" / f"{number:02}.png")


def make_config(folder: Path) -> Config:
    """A small U-Net that learns the shapes in seconds."""
    return Config(
        name="shapes",
        architecture="unet",
        options={"width": 8, "levels": 2},
        task="segmentation",
        labels=LABELS,
        data=str(folder),
        input=SPEC,
        epochs=6,
        passes=2,
        batch_size=8,
        learning_rate=1e-2,
        augment=Augmentation(turn=True, brightness=0.1),
        device="cpu",
    )


@dataclass(frozen=True)
class Exported:
    """A run, and the model file that was made of it."""

    config: Config
    run: Path
    figures: dict[str, float]  # of the last epoch
    model: Classifier
    test: MaskSplit
    folder: Path
    said: str

    @property
    def card(self) -> dict[str, object]:
        return read_card((self.folder / "model.onnx").read_bytes())


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures with masks in one folder, which is split by the seed."""
    folder = tmp_path_factory.mktemp("shapes")
    write_pictures(folder, 40)
    return folder


@pytest.fixture(scope="session")
def exported(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The U-Net of the shapes, trained, and exported with all checks. Tests must not change it."""
    run, models = tmp_path_factory.mktemp("run"), tmp_path_factory.mktemp("models")
    config = replace(make_config(shapes), name="shapes")
    data = load_dataset(config)
    figures = fit(config, data, run)
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *texts: said.append(" ".join(map(str, texts))))
        folder = export_checkpoint(CheckpointRequest(run / "best.pt", models, maps=3))
    model = load_checkpoint(run / "best.pt")[2]
    test = data.get_split("test")
    assert isinstance(test, MaskSplit)
    return Exported(config, run, figures, model, test, folder, "\n".join(said))
