"""Tiny networks and pictures for the training tests."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from training.config import Config
from training.config_file import load_config
from training.data.datasets import Dataset, Split
from training.graph.compilation import CompiledGraph, compile_graph
from training.imaging.preprocessing import Input, Pixels
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, build_classifier
from training.networks.lenet import LeNet5

GRAY = Input("L", 28, 28, 28, mean=(0.0,), std=(0.3,), dark_on_light=True)
COLOR = Input("RGB", 32, 32, 32)


@pytest.fixture(scope="session", autouse=True)
def quick_torch(request: pytest.FixtureRequest) -> None:
    """Tiny networks are slower on two threads, the more so where others use the cores."""
    request.getfixturevalue("cached_translations")
    torch.set_num_threads(1)


@pytest.fixture
def lenet() -> Classifier:
    """LeNet-5 with random weights and biases."""
    return make_lenet()


def make_lenet() -> Classifier:
    """The same one each time."""
    torch.manual_seed(1)
    model = Classifier(GRAY, LeNet5()).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(weight, std=0.3)
    return model


@pytest.fixture
def grays() -> Pixels:
    """A dozen gray scenes: (12, 28, 28, 1)."""
    return generate_images(12, 28, 28, 1)


@pytest.fixture(scope="session")
def compiled_once() -> CompiledGraph:
    """The graph of `lenet`: compiling takes a second."""
    model = make_lenet()
    return compile_graph(model, model.network, "features.act2", generate_images(12, 28, 28, 1))


@pytest.fixture
def compiled(compiled_once: CompiledGraph) -> CompiledGraph:
    """The graph of `lenet`, with its heatmap, exact; the test may change it."""
    return copy.deepcopy(compiled_once)


@pytest.fixture
def colors() -> Pixels:
    """A dozen colour scenes: (12, 32, 32, 3)."""
    return generate_images(12, 32, 32, 3)


class Small(nn.Module):
    """A convolutional stage, then a head to choose: a network made for a test."""

    def __init__(self, head: nn.Module, channels: int = 6) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.features = nn.Sequential(nn.ReLU(), nn.Conv2d(4, channels, 3, padding=1), nn.ReLU())
        self.head = head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.features(self.stem(x)))
        return logits


@pytest.fixture
def small() -> Callable[[nn.Module], Classifier]:
    """Makes a classifier of 32-pixel pictures around a head that takes (N, 6, 16, 16)."""

    def make(head: nn.Module) -> Classifier:
        torch.manual_seed(2)
        for module in head.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.normal_(module.weight, std=0.3)
        return Classifier(COLOR, Small(head)).eval()

    return make


@pytest.fixture
def strokes() -> Dataset:
    """Two classes that LeNet-5 tells apart at once."""
    return bars()


def bars() -> Dataset:
    """Upright and lying bars on a dark ground: (N, 28, 28, 1)."""
    rng = np.random.default_rng(0)

    def drawn(count: int) -> Split:
        pictures = rng.integers(0, 40, (count, 28, 28, 1), np.uint8)
        labels = rng.integers(0, 2, count)
        for picture, label in zip(pictures, labels, strict=True):
            at = rng.integers(8, 18)
            if label:
                picture[at : at + 3, 6:22] = 220
            else:
                picture[6:22, at : at + 3] = 220
        return Split(pictures, labels)

    return Dataset({"train": drawn(96), "val": drawn(32), "test": drawn(32)}, ("upright", "lying"))


@pytest.fixture
def quick() -> Config:
    """A config that learns the strokes in a second."""
    return replace(
        load_config("lenet5"),
        name="strokes",
        data="strokes",
        epochs=4,
        batch_size=16,
        options={"activation": "relu", "dropout": 0.1},
        device="cpu",
    )


@pytest.fixture
def resnet(tmp_path: Path) -> Config:
    """A ResNet-18 of 32-pixel pictures that starts from a file of weights for seven classes."""
    config = load_config("eurosat", ["input.height=32", "input.width=32", "input.resize=32"])
    config = replace(config, precision="fp32", epochs=2, batch_size=8, average=0.0, device="cpu")
    torch.manual_seed(3)
    state = build_classifier("resnet18", 7, config.input, config.options).network.state_dict()
    file = tmp_path / "weights.npz"
    np.savez(file, **{name: value.numpy() for name, value in state.items()})
    return replace(config, weights=str(file))
