"""The list of target layers has every layer that Grad-CAM can explain, and no other."""

import pytest
import torch
from torch import nn

from training.errors import UserError
from training.gradcam.reference import METHODS
from training.gradcam.target_layers import list_target_layers
from training.imaging.preprocessing import Input, Pixels
from training.networks.classifier import Classifier


def test_lenets_layers_are_listed_with_their_maps(lenet: Classifier, grays: Pixels) -> None:
    """Layers of the head have no map and are left out."""
    rows = list_target_layers(lenet, lenet.network, torch.from_numpy(grays[:4]))
    found = {row.name: (row.channels, row.height, row.width) for row in rows}
    assert found["features.act2"] == (16, 10, 10)
    assert found["features.conv1"] == (6, 28, 28)
    assert not [name for name in found if name.startswith("classifier")]
    assert all(row.cost > 0 for row in rows)


def test_a_layer_has_a_row_for_each_method_that_differs(colors: Pixels) -> None:
    """The last map is averaged, so both methods are one there."""
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(4, 2),
    )
    model = Classifier(Input("RGB", 32, 32, 32), nn.Sequential(network[0], nn.ReLU(), network[1:]))
    image = torch.from_numpy(colors[:4])
    rows = list_target_layers(model, model.network, image, methods=METHODS)
    found = [(row.name, row.method) for row in rows if row.name in ("1", "2.1")]
    assert found == [("1", "gradcam"), ("1", "hirescam"), ("2.1", "gradcam")]
    [only] = list_target_layers(model, model.network, image, methods=("hirescam",), only="2.1")
    assert (only.name, only.method) == ("2.1", "gradcam")


def test_shared_and_unused_layers_are_left_out(colors: Pixels) -> None:
    """A shared activation has two maps, and an unused branch explains nothing."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
            self.idle, self.shared, self.head = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.idle(x)
            x = self.shared(self.two(self.shared(self.one(x))))
            logits: torch.Tensor = self.head(x.mean((2, 3)))
            return logits

    wanted = Input("RGB", 32, 32, 32)
    model = Classifier(wanted, Odd()).eval()
    rows = list_target_layers(model, model.network, torch.from_numpy(colors[:4]))
    assert [row.name for row in rows] == ["one", "two"]


def test_a_network_without_maps_is_rejected(colors: Pixels) -> None:
    """A perceptron has no map."""
    head = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    model = Classifier(Input("RGB", 32, 32, 32), head)
    with pytest.raises(UserError, match="nothing to show"):
        list_target_layers(model, model.network, torch.from_numpy(colors[:4]))
