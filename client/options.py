"""The parameters of a call, as the service names them."""

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypedDict

PLACES = ("box", "point")  # parameters that are one list of numbers


class PredictOptions(TypedDict, total=False):
    """Parameters of a prediction. What is left out has the service's default."""

    model: str  # "name" or "name/version"
    top_k: int  # number of labels; 0 is all
    mask: bool  # also return the mask, if the model segments


class SegmentOptions(TypedDict, total=False):
    """Parameters of a drawn mask. What is left out has the service's default."""

    model: str
    view: Literal["overlay", "mask"]  # over the picture, or a PNG whose values are classes
    alpha: float  # opacity of the mask over the picture, 0 to 1
    size: int  # longer side of the drawn picture in pixels; 0 is that of the picture


class ExplainOptions(PredictOptions, total=False):
    """Parameters of an explanation."""

    target: str | Sequence[str]  # a label, or at most 8 of them
    target_index: int
    target_top: int  # this many of the most probable labels
    against: str  # explain the target rather than this label
    against_index: int
    box: Sequence[float]  # left, top, right, bottom of the region, if the model segments
    point: Sequence[float]  # x, y: the same for one pixel
    of: str  # only the pixels of this class
    view: Literal["overlay", "heatmap", "signed"]
    box_threshold: float  # 0.05 to 0.95
    alpha: float  # opacity of the hottest point, 0 to 1
    colormap: Literal["viridis", "turbo", "gray"]
    size: int  # longer side of the drawn picture in pixels; 0 is that of the picture
    verify: bool


Options: TypeAlias = PredictOptions | ExplainOptions | SegmentOptions


def make_fields(options: Options) -> dict[str, str | list[str]]:
    """Return the form fields of the parameters."""
    return {name: make_field(name, value) for name, value in options.items() if value is not None}


def make_field(name: str, value: object) -> str | list[str]:
    """Return the text of one parameter, or a list if it is repeated."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        items = [str(item) for item in value]
        return ",".join(items) if name in PLACES else items
    return str(value)
