"""The parameters of a call, as the service names them."""

from collections.abc import Sequence
from typing import Literal, TypedDict


class PredictOptions(TypedDict, total=False):
    """Parameters of a prediction. What is left out has the service's default."""

    model: str  # "name" or "name/version"
    top_k: int  # number of labels; 0 is all


class ExplainOptions(PredictOptions, total=False):
    """Parameters of an explanation."""

    target: str | Sequence[str]  # a label, or at most 8 of them
    target_index: int
    target_top: int  # this many of the most probable labels
    against: str  # explain the target rather than this label
    against_index: int
    view: Literal["overlay", "heatmap", "signed"]
    box_threshold: float  # 0.05 to 0.95
    alpha: float  # opacity of the hottest point, 0 to 1
    colormap: Literal["viridis", "turbo", "gray"]
    size: int  # longer side of the drawn picture in pixels; 0 is that of the picture
    verify: bool


def make_fields(options: PredictOptions | ExplainOptions) -> dict[str, str | list[str]]:
    """Return the form fields of the parameters."""
    return {name: make_field(value) for name, value in options.items() if value is not None}


def make_field(value: object) -> str | list[str]:
    """Return the text of one parameter, or a list if it is repeated."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return str(value)
