"""Networks of timm, where timm is installed; it is not needed for anything else."""

from typing import Any

from torch import nn

from training.errors import UserError
from training.imaging.preprocessing import Input


def build_timm(name: str, classes: int, options: dict[str, Any]) -> nn.Module:
    """A network by timm's name for it; `pretrained=True` among the options fetches its weights."""
    try:
        network: nn.Module = import_timm().create_model(name, num_classes=classes, **options)
    except (RuntimeError, OSError, ValueError) as fault:
        raise UserError(f"timm can't make {name!r}: {str(fault).splitlines()[0]}") from fault
    return network


def get_timm_input(name: str) -> Input:
    """The pictures that timm's own weights of this name were trained for."""
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
    """timm itself, or one sentence."""
    try:
        import timm
    except ImportError as fault:
        raise UserError("timm is not installed: pip install timm.") from fault
    return timm
