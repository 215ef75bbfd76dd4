"""A task where the evidence is known: one striped disk on a gray ground; the stripes' direction is
the class, and a blur takes it away.

`teach` trains a tiny network on it in seconds. `stamped` pictures give the class away in a corner.
"""

import copy
import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.data.datasets import Split
from training.evaluate.randomisation import list_layers_in_order, shuffle_weights
from training.gradcam.reference import compute_gradcam, find_layer
from training.imaging.preprocessing import Input, Pixels
from training.networks.classifier import Classifier

SIDE = 48
INPUT = Input("RGB", SIDE, SIDE, SIDE, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
LABELS = ("lying", "upright", "rising", "falling")
DIRECTIONS = np.deg2rad([90, 0, 45, 135])  # across the stripes
STAMP = 6  # pixels
LAYER = "features"


class Lesson(NamedTuple):
    """What was taught and what came of it on pictures held out."""

    model: Classifier
    seen: Split
    answers: NDArray[np.int64]  # (N,)
    cams: NDArray[np.float32]  # (N, h, w)

    def predict(self, pictures: Pixels) -> NDArray[np.float32]:
        """Probabilities (N, K)."""
        found: NDArray[np.float32] = self.model(torch.from_numpy(pictures)).softmax(1).numpy()
        return found

    def run(self, pictures: Pixels, target: NDArray[np.int64]) -> list[NDArray[np.float32]]:
        """Logits, probabilities and cam, as the exported graph gives them."""
        found = compute_gradcam(
            self.model, torch.tensor(pictures), torch.tensor(target), layer(self.model)
        )
        return [x.numpy() for x in (found.logits, found.logits.softmax(1), found.cam)]


class Tiny(nn.Module):
    """Two convolutions, their average, one linear layer: its maps are 12 x 12 and complete."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.ReLU(),
            nn.Conv2d(12, 16, 3, stride=2, padding=1), nn.ReLU(),
        )  # fmt: skip
        self.fc = nn.Linear(16, len(LABELS))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.features(x).mean((2, 3)))
        return logits


def draw(count: int, seed: int = 0, coarse: bool = False) -> Split:
    """Pictures (N, 48, 48, 3) with a disk of random size, place, stripes and contrast.

    Coarse ones can still be told when they are shrunk to half their size.
    """
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(LABELS), count)
    pictures = rng.integers(105, 150, (count, SIDE, SIDE, 1))
    y, x = np.mgrid[:SIDE, :SIDE]
    for picture, label in zip(pictures, labels, strict=True):
        radius = rng.integers(12, 16) if coarse else rng.integers(5, 12)
        period = rng.uniform(7, 8) if coarse else rng.uniform(3, 7)
        top, left = rng.integers(radius, SIDE - radius, 2)
        inside = np.hypot(y - top, x - left) <= radius
        along = x * np.cos(DIRECTIONS[label]) + y * np.sin(DIRECTIONS[label])
        waves = 127 + 90 * np.sin(2 * np.pi * (along / period + rng.random()))
        picture[inside, 0] = waves[inside]
    return Split(pictures.astype(np.uint8).repeat(3, 3), labels)


def stamped(split: Split) -> Split:
    """The same with a corner whose gray gives the class away, and stripes that say nothing."""
    other = draw(len(split), 7)
    pictures: Pixels = other.pictures.copy()
    pictures[:, :STAMP, :STAMP] = (20 + 70 * split.labels)[:, None, None, None]
    return Split(pictures, split.labels)


def teach(split: Split, epochs: int = 20) -> Classifier:
    """The tiny network after so many passes over the pictures."""
    torch.manual_seed(0)
    model = Classifier(INPUT, Tiny())
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    image, label = torch.from_numpy(split.pictures), torch.from_numpy(split.labels)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(label)), 32):
            loss = nn.functional.cross_entropy(model(image[rows]), label[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model.eval().requires_grad_(False)


@functools.cache
def lesson() -> Lesson:
    """The network taught once for all tests, and its maps of 48 pictures it has not seen."""
    model, seen = teach(draw(384)), draw(48, 1)
    return Lesson(model, seen, *explained(model, seen.pictures))


def randomised() -> Classifier:
    """The same network with its weights in other places."""
    model = copy.deepcopy(lesson().model)
    for name in list_layers_in_order(model, torch.from_numpy(lesson().seen.pictures[:1])):
        shuffle_weights(model.get_submodule(name), torch.Generator().manual_seed(5))
    return model


def explained(model: Classifier, pictures: Pixels) -> tuple[NDArray[Any], NDArray[Any]]:
    """The class answered (N,), and its cam (N, 12, 12)."""
    target = torch.full((len(pictures), 1), -1)
    found = compute_gradcam(model, torch.tensor(pictures), target, layer(model))
    return found.logits.argmax(1).numpy(), found.cam[:, 0].numpy()


def layer(model: Classifier) -> nn.Module:
    return find_layer(model.network, LAYER)
