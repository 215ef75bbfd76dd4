"""Torchvision's classifiers: their construction, input, weights and default target layers."""

from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
import torchvision
from pydantic.dataclasses import dataclass
from torch import nn
from torchvision import models

from training.errors import UserError
from training.imaging.preprocessing import Input
from training.validation import CHECKED, Settings

# The output of the last convolutional stage, after norm and activation and before pooling.
TARGET_LAYERS: tuple[tuple[type[nn.Module], str], ...] = (
    (models.AlexNet, "features.11"),
    (models.ResNet, "layer4"),
    (models.DenseNet, "features.relu5"),
    (models.GoogLeNet, "inception5b"),
    (models.Inception3, "Mixed_7c"),
    (models.SqueezeNet, "features"),
    (models.MobileNetV2, "features"),
    (models.MobileNetV3, "features"),
    (models.EfficientNet, "features"),
    (models.RegNet, "trunk_output"),
    (models.MNASNet, "layers"),
    (models.ShuffleNetV2, "conv5"),
    (models.ConvNeXt, "features"),
    (models.SwinTransformer, "norm"),
)
SEGMENTATION = (
    models.segmentation.FCN,
    models.segmentation.DeepLabV3,
    models.segmentation.LRASPP,
)
INCEPTIONS = ("googlenet", "inception_v3")


@dataclass(frozen=True, config=CHECKED)
class TorchvisionOptions(Settings):
    """What a config's `options` can change."""

    PREFIX: ClassVar[str] = "options."

    stem: Literal["imagenet", "small"] = "imagenet"  # small: for ResNets on small pictures
    last_stride: Literal[1, 2] = 2  # of a ResNet's last stage; 1: its map is twice as fine


class DenseNet(models.DenseNet):  # type: ignore[misc]
    """Torchvision's DenseNet, with its last activation as a module that Grad-CAM can target."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = F.adaptive_avg_pool2d(self.features(x), (1, 1)).flatten(1)
        logits: torch.Tensor = self.classifier(pooled)
        return logits


def list_torchvision_names() -> list[str]:
    """The names of all of torchvision's classifiers."""
    found: list[str] = models.list_models(torchvision.models)
    return found


def build_torchvision(architecture: str, classes: int, /, **options: Any) -> nn.Module:
    """An untrained network.

    On pictures of 64 pixels a ResNet has a map of 2x2. `stem="small"` makes that 4x4, and
    `last_stride=1` doubles it, too.
    """
    chosen = TorchvisionOptions(**options)
    extra: dict[str, Any] = {}
    if architecture in INCEPTIONS:
        extra = {"aux_logits": False, "init_weights": True}
    network: nn.Module = models.get_model(architecture, weights=None, num_classes=classes, **extra)
    if isinstance(network, models.DenseNet):
        network.features.add_module("relu5", nn.ReLU())
        network.__class__ = DenseNet
    if isinstance(network, models.ResNet):
        change_resnet(network, chosen)
    for name, usual in vars(TorchvisionOptions()).items():
        value = getattr(chosen, name)
        if value != usual and not isinstance(network, models.ResNet):
            raise UserError(f"{name}={value!r} works for ResNets only, not for {architecture}.")
    return network


def change_resnet(network: models.ResNet, chosen: TorchvisionOptions) -> None:
    """Replace the stem of a ResNet, and the stride of its last stage, as the options say."""
    if chosen.stem == "small":
        network.conv1 = nn.Conv2d(3, network.conv1.out_channels, 3, 2, 1, bias=False)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        network.maxpool = nn.Identity()
    if chosen.last_stride == 1:
        for module in network.layer4[0].modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)


def find_torchvision_layer(network: nn.Module) -> str | None:
    """The default target layer, or None if the network is not torchvision's."""
    if isinstance(network, models.VGG):
        return f"features.{len(network.features) - 2}"  # the ReLU before the last pool
    if isinstance(network, models.VisionTransformer):
        # The last block's outputs of places do not reach the logits: the class token's does.
        return f"encoder.layers.{[*network.encoder.layers._modules][-1]}.ln_1"
    if isinstance(network, SEGMENTATION):
        return f"backbone.{[*network.backbone._modules][-1]}"
    if isinstance(network, models.MaxVit):
        return f"blocks.{len(network.blocks) - 1}"
    return next((name for kind, name in TARGET_LAYERS if isinstance(network, kind)), None)


def get_torchvision_input(architecture: str) -> Input:
    """The input that torchvision's own weights were trained with."""
    weights = models.get_model_weights(architecture)
    preset = next(iter(weights)).transforms()
    # Torchvision's Inceptions change ImageNet's normalisation to this one when they have weights.
    half = (0.5, 0.5, 0.5) if architecture in INCEPTIONS else None
    return Input(
        height=preset.crop_size[0],
        width=preset.crop_size[0],
        resize=preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=half or tuple(preset.mean),
        std=half or tuple(preset.std),
    )


def download_torchvision_weights(architecture: str) -> dict[str, Any]:
    """Torchvision's first ImageNet weights, downloaded on first use.

    Raises:
        UserError: torchvision has no weights for the architecture, or cannot download them.
    """
    own = next(iter(models.get_model_weights(architecture)), None)
    if own is None:
        raise UserError(f"torchvision has no weights for {architecture!r}. Give a weights file.")
    try:
        state: dict[str, Any] = own.get_state_dict(progress=True)
    except (OSError, RuntimeError) as error:  # no network, or a download that was cut off
        raise UserError(
            f"The weights of {architecture} cannot be downloaded: {error}. "
            f"Download {own.url} where there is a network, and give that file as weights."
        ) from error
    return state


def get_imagenet_labels(architecture: str) -> tuple[str, ...]:
    """ImageNet's 1,000 labels. The second of two equal names gets the suffix " (2)"."""
    listed: list[str] = next(iter(models.get_model_weights(architecture))).meta["categories"]
    seen: dict[str, int] = {}
    unique = []
    for name in listed:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(unique)
