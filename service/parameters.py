"""The parameters of the calls with images: names, ranges, defaults. OpenAPI has them from here."""

from contextlib import suppress
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    WithJsonSchema,
    model_validator,
)

from service.imaging.heatmap import Colormap, View
from service.imaging.mask import MaskView

MAX_TARGETS = 8
MAX_BATCH_IMAGES = 64
# Pydantic reads "0" from a form or query as a number, but not where the type is a literal.
Zero = Annotated[Literal[0], BeforeValidator(lambda value: 0 if value == "0" else value)]
DrawnSize = Zero | Annotated[int, Field(ge=16, le=4096)] | None


def read_numbers(example: str) -> BeforeValidator:
    """Return what reads numbers from a text like `example`, or from a list in JSON."""
    count = example.count(",") + 1

    def read(value: Any) -> tuple[float, ...]:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        parts = value.split(",") if isinstance(value, str) else value
        is_list = isinstance(parts, list) and len(parts) == count
        if is_list and (isinstance(value, str) or {*map(type, parts)} <= {int, float}):
            with suppress(ValueError, OverflowError):
                numbers = tuple(map(float, parts))
                if all(map(isfinite, numbers)):
                    return numbers
        raise ValueError(f'it should be {count} numbers as in "{example}"')

    return BeforeValidator(read)


def describe_numbers(example: str) -> WithJsonSchema:
    """Return the schema of numbers in a text like `example`, or in a list."""
    count = example.count(",") + 1
    numbers = {"type": "array", "items": {"type": "number"}, "minItems": count, "maxItems": count}
    return WithJsonSchema({"anyOf": [{"type": "string", "examples": [example]}, numbers]})


def check_box(
    box: tuple[float, float, float, float],
) -> tuple[float, float, float, float]:
    """Return the box if it has a width and a height.

    Raises:
        ValueError: it has not.
    """
    left, top, right, bottom = box
    if left >= right or top >= bottom:
        raise ValueError("it should be left,top,right,bottom with left < right and top < bottom")
    return box


BoxNumbers = Annotated[
    tuple[float, float, float, float],
    read_numbers("10,20,110,90"),
    AfterValidator(check_box),
    describe_numbers("10,20,110,90"),
]
PointNumbers = Annotated[tuple[float, float], read_numbers("60,55"), describe_numbers("60,55")]


class ModelOptions(BaseModel):
    """The parameter that all calls have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, description="`name` or `name/version`. Default: the default model"
    )


class PredictOptions(ModelOptions):
    """Parameters of a prediction, given as form fields, query parameters or JSON keys."""

    MASK_ONLY: ClassVar[tuple[str, ...]] = ("mask",)  # for models that segment

    top_k: NonNegativeInt = Field(5, description="Number of labels to return. 0 returns all")
    mask: bool = Field(
        False,
        description="Also return the mask, as a PNG in base64. Only models that segment have one",
    )


class SegmentOptions(ModelOptions):
    """Parameters of a picture of a mask."""

    view: MaskView = Field(
        MaskView.OVERLAY,
        description="What is drawn: the mask over the picture, or a PNG whose values are classes",
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        0.6, description="Opacity of the mask over the picture"
    )
    size: DrawnSize = Field(
        None,
        description="Longer side of the drawn picture in pixels. 0 keeps the uploaded size. "
        "Default: for `mask` the uploaded size, for `overlay` the same, but at least 224 and at "
        "most 1024",
    )


class ExplainOptions(PredictOptions):
    """Parameters of an explanation."""

    MASK_ONLY = ("mask", "box", "point", "of")

    target: Annotated[tuple[str, ...], Field(max_length=MAX_TARGETS)] = Field(
        (),
        description="Label to explain. Default: the most probable label. Repeat it for several "
        "labels, which only JSON answers allow",
    )
    target_index: NonNegativeInt | None = Field(
        None, description="Index of the label to explain, in place of `target`"
    )
    target_top: Annotated[int, Field(ge=1, le=MAX_TARGETS)] | None = Field(
        None,
        description="Explain this many of the most probable labels, in place of `target`. "
        "More than one needs a JSON answer",
    )
    box: BoxNumbers | None = Field(
        None,
        description="For models that segment: explain the pixels in this box, `left,top,right,"
        "bottom` in pixels of the uploaded picture. Default: the whole picture",
    )
    point: PointNumbers | None = Field(
        None, description="The same for one pixel, `x,y`, in place of `box`"
    )
    of: str | None = Field(
        None,
        description="Label: explain only the pixels that the model gives this class. Default: "
        "those of the target; with `point`, that pixel whatever its class",
    )
    against: str | None = Field(None, description="Explain the target rather than this label")
    against_index: NonNegativeInt | None = Field(
        None, description="Index of that label, in place of `against`"
    )
    view: View | None = Field(
        None, description="What is drawn. Default: `overlay` for a picture, nothing for JSON"
    )
    box_threshold: Annotated[float, Field(ge=0.05, le=0.95)] = Field(
        0.5,
        description="Heat from which a point belongs to the region in `box`, as a share of the "
        "map's maximum. Only JSON answers have a box",
    )
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        0.6, description="Opacity of the hottest point"
    )
    colormap: Colormap = Field(Colormap.VIRIDIS, description="Colours of the heatmap")
    size: DrawnSize = Field(
        None,
        description="Longer side of the drawn picture in pixels. 0 keeps the uploaded size. "
        "Default: the uploaded size, but at least 224 and at most 1024",
    )
    verify: bool = Field(
        False,
        description="Also run the model with the picture blurred where the map is hottest (a fifth "
        "of its area), and blurred where it is coldest",
    )

    @model_validator(mode="after")
    def _check_targets(self) -> Self:
        if sum((bool(self.target), self.target_index is not None, self.target_top is not None)) > 1:
            raise ValueError("give only one of 'target', 'target_index' and 'target_top'")
        if self.against is not None and self.against_index is not None:
            raise ValueError("give only one of 'against' and 'against_index'")
        if self.box and self.point:
            raise ValueError("give only one of 'box' and 'point'")
        return self
