"""Known architectures have a target layer by default, also timm's, which are optional."""

import pytest
from torch import nn

from training.networks.classifier import find_known_layer


class Block(nn.Module):
    """The part of a transformer's block that tells its kind."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(4)


def imitate(name: str, **parts: object) -> nn.Module:
    """A module that looks like one of timm's classes."""
    network: nn.Module = type(name, (nn.Module,), {"__module__": f"timm.models.{name.lower()}"})()
    for part, value in parts.items():
        setattr(network, part, value)
    return network


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (imitate("VisionTransformer", blocks=nn.Sequential(Block(), Block())), "blocks.1.norm1"),
        (
            imitate(
                "Xcit",
                blocks=nn.ModuleList([Block()]),
                cls_attn_blocks=nn.ModuleList(),
                feature_info=[{"module": "blocks.0"}],
            ),
            "blocks.0",
        ),
        (
            imitate("SwinTransformerV2", norm=nn.ReLU(), feature_info=[{"module": "layers.3"}]),
            "norm",
        ),
        (imitate("SwinTransformerV2Cr", feature_info=[{"module": "stages.3"}]), "stages.3"),
        (imitate("ResNetV2", norm=nn.ReLU(), feature_info=[{"module": "stages.3"}]), "norm"),
        (
            imitate(
                "HighResolutionNet", final_layer=nn.ReLU(), feature_info=[{"module": "stage4"}]
            ),
            "final_layer",
        ),
        (imitate("ResNet", feature_info=[{"module": "act1"}, {"module": "layer4"}]), "layer4"),
        (
            imitate(
                "EfficientNet",
                blocks=nn.Sequential(nn.Sequential(nn.ReLU())),
                feature_info=[{"module": "blocks.6"}],
            ),
            "blocks.6",
        ),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), None),
    ],
)
def test_the_last_stage_is_the_default(network: nn.Module, layer: str | None) -> None:
    """A vision transformer's is the first norm of its last block."""
    assert find_known_layer(network) == layer
