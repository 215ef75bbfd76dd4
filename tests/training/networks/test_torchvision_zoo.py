"""Options of torchvision's ResNets change their maps, and nothing else."""

import pytest
import torch
from torch import nn
from torchvision.models.feature_extraction import create_feature_extractor

from training.errors import UserError
from training.networks.torchvision_zoo import build_torchvision


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
@pytest.mark.parametrize(
    ("options", "side"),
    [
        ({}, 2),
        ({"stem": "small"}, 4),
        ({"last_stride": 1}, 4),
        ({"stem": "small", "last_stride": 1}, 8),
    ],
)
def test_the_map_of_a_small_picture(
    architecture: str, options: dict[str, object], side: int
) -> None:
    """Of 64 x 64 pixels. Weights of the usual network fit, but for those of the stem."""
    network = build_torchvision(architecture, 3, **options).eval()
    image = torch.zeros(1, 3, 64, 64)
    maps = create_feature_extractor(network, ["layer4"])(image)["layer4"]
    assert maps.shape[2:] == (side, side)
    assert network(image).shape == (1, 3)
    usual = build_torchvision(architecture, 3).state_dict()
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    del usual["conv1.weight"], shapes["conv1.weight"]
    assert shapes == {name: value.shape for name, value in usual.items()}


@pytest.mark.parametrize("options", [{"stem": "small"}, {"last_stride": 1}])
def test_options_of_resnets_are_refused_for_other_networks(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="works for ResNets only, not for squeezenet1_1"):
        build_torchvision("squeezenet1_1", 3, **options)


def test_the_default_is_torchvisions_own() -> None:
    strides = {
        name: module.stride
        for name, module in build_torchvision("resnet18", 3).named_modules()
        if isinstance(module, nn.Conv2d)
    }
    assert strides["layer4.0.conv1"] == strides["layer4.0.downsample.0"] == (2, 2)
