"""A plan is the cheapest exact way to alpha. A shortcut that is not exact is never used."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from training.gradcam.plan import SAME_MAP, make_plan
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier

Make = Callable[[nn.Module], Classifier]


class Skip(nn.Module):
    """A pool and a linear layer, with the map's maximum on a path around them."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.fc = nn.AvgPool2d(4), nn.Linear(6 * 16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.pool(x).flatten(1)) + 0.1 * x.flatten(2).amax(2)[:, :5]
        return logits


HEADS = {
    "average and linear": (
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)),
        ("linear", "head.2", "closed-form"),
    ),
    "max pool and linear": (
        nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 64, 5)),
        ("linear", "head.2", "closed-form"),
    ),
    "pools and a perceptron": (
        nn.Sequential(
            nn.MaxPool2d(3, 2, 1),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(54, 8),
            nn.Tanh(),
            nn.Linear(8, 5),
        ),
        ("linear", "head.4", "backward"),
    ),
    "convolution and average": (
        nn.Sequential(
            nn.Dropout(), nn.Conv2d(6, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        ),
        ("conv", "head.1", "closed-form"),
    ),
    "pool and convolution": (
        nn.Sequential(
            nn.AvgPool2d(2), nn.Conv2d(6, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)
        ),
        ("pool", "head.0", "backward"),
    ),
    "padded average": (
        nn.Sequential(
            nn.AvgPool2d(3, 2, 1, count_include_pad=True), nn.Flatten(), nn.Linear(6 * 64, 5)
        ),
        ("map", "features", "backward"),
    ),
    "a gate before the average": (
        nn.Sequential(nn.Hardtanh(0, 0.3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)),
        ("map", "features", "backward"),
    ),
    "flat and linear": (
        nn.Sequential(nn.Flatten(), nn.Linear(6 * 256, 5)),
        ("linear", "head.1", "closed-form"),
    ),
    "a path past the pool": (Skip(), ("map", "features", "backward")),
}


@pytest.mark.parametrize("name", HEADS)
def test_each_head_gets_its_shortcut(small: Make, colors: Pixels, name: str) -> None:
    """Heads for which a shortcut is wrong get none."""
    head, expected = HEADS[name]
    model = small(head)
    found = make_plan(model, model.network, "features", torch.from_numpy(colors[:3]))
    assert (found.kind, found.pivot, found.compiler) == expected
    assert found.error < 1e-9


HIRESCAM = {
    "max pool and linear": ("map", "features", "backward"),
    "pools and a perceptron": ("linear", "head.4", "backward"),
    "convolution and average": ("conv", "head.1", "closed-form"),
    "pool and convolution": ("map", "features", "backward"),
    "padded average": ("map", "features", "backward"),
    "a gate before the average": ("map", "features", "backward"),
    "flat and linear": ("linear", "head.1", "closed-form"),
    "a path past the pool": ("map", "features", "backward"),
}


@pytest.mark.parametrize("name", HEADS)
def test_each_head_gets_its_shortcut_to_hirescam(small: Make, colors: Pixels, name: str) -> None:
    """Where only the average of the map counts, Grad-CAM is the same map and takes its place."""
    model = small(HEADS[name][0])
    image = torch.from_numpy(colors[:3])
    found = make_plan(model, model.network, "features", image, "hirescam")
    if name not in HIRESCAM:
        assert (found.method, found.reason) == ("gradcam", SAME_MAP)
        assert found == replace(make_plan(model, model.network, "features", image), reason=SAME_MAP)
        return
    assert (found.method, found.reason) == ("hirescam", "")
    assert (found.kind, found.pivot, found.compiler) == HIRESCAM[name]
    assert found.error < 1e-9


def test_a_gate_that_no_picture_closes_is_still_a_gate(small: Make, colors: Pixels) -> None:
    """On these pictures both maps are the same, on others they might not be."""
    gate = nn.Hardtanh(-0.1, 1e6)
    model = small(nn.Sequential(gate, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)))
    image = torch.from_numpy(colors[:3])
    assert make_plan(model, model.network, "features", image, "hirescam").method == "hirescam"


@pytest.mark.parametrize(
    ("layer", "kind", "pivot"),
    [
        ("features.act2", "linear", "classifier.fc1"),
        ("features.conv2", "map", "features.conv2"),
        ("features.act1", "pool", "features.pool1"),
        ("features.pool2", "linear", "classifier.fc1"),
    ],
)
def test_lenets_layers_get_their_shortcuts(
    lenet: Classifier, grays: Pixels, layer: str, kind: str, pivot: str
) -> None:
    """The default layer needs no gradient of convolutions."""
    found = make_plan(lenet, lenet.network, layer, torch.from_numpy(grays[:3]))
    assert (found.kind, found.pivot, found.seed) == (kind, pivot, "classifier.fc3")
