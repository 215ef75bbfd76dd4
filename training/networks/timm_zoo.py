"""Networks of timm. The package is optional, and only these functions need it."""

from typing import Any

from torch import nn

from training.errors import UserError
from training.imaging.preprocessing import Input

TIMM_PREFIX = "timm:"


def build_timm(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    """A network by timm's name. The option `pretrained=True` downloads its weights."""
    timm = import_timm()
    try:
        network: nn.Module = timm.create_model(name, num_classes=classes, **options)
    except Exception as error:  # networks and downloads raise many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"timm cannot build {name!r}: {reason}") from error
    return network


AFTER_THE_STAGES = {
    "SwinTransformer": "norm",
    "ResNetV2": "norm",
    "HighResolutionNet": "final_layer",
}


def find_timm_layer(network: nn.Module) -> str | None:
    """The default target layer, or None if the network is not timm's or has no known stages.

    It is the last stage. Of a vision transformer it is the first norm of the last block, because
    that block's outputs of places do not reach the logits. Of a Swin and a ResNet v2 it is the norm
    after the last stage, and of an HRNet the layer after it, because the stage outputs a list.
    """
    if not type(network).__module__.startswith("timm."):
        return None
    for family, layer in AFTER_THE_STAGES.items():
        if type(network).__name__.startswith(family) and hasattr(network, layer):
            return layer
    blocks = [*getattr(network, "blocks", ())]
    # Attention of a class token follows XCiT's blocks, so their outputs of places count.
    if blocks and hasattr(blocks[-1], "norm1") and not hasattr(network, "cls_attn_blocks"):
        return f"blocks.{len(blocks) - 1}.norm1"
    if stages := [*getattr(network, "feature_info", ())]:
        return str(stages[-1]["module"])
    return f"blocks.{len(blocks) - 1}" if blocks else None


def get_timm_input(name: str) -> Input:
    """The input that timm's own weights of this name were trained with."""
    config = import_timm().get_pretrained_cfg(name, allow_unregistered=True)
    if config is None or not config.input_size:
        return Input()
    channels, height, width = config.input_size
    return Input(
        mode="L" if channels == 1 else "RGB",
        height=height,
        width=width,
        resize=round(height / (config.crop_pct or 1)),
        interpolation=config.interpolation or "bilinear",
        mean=tuple(config.mean),
        std=tuple(config.std),
    )


def import_timm() -> Any:
    """Import timm, or raise a UserError that says how to install it."""
    try:
        import timm
    except ImportError as error:
        raise UserError("timm is not installed. Install it with `pip install timm`.") from error
    return timm
