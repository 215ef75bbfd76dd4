"""The schemas of requests and answers. They validate both and describe them in OpenAPI."""

from typing import Annotated, Any, Literal, NotRequired, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeInt,
    model_validator,
)
from typing_extensions import TypedDict

from service.errors import ErrorDetail
from service.imaging.heatmap import Colormap, View

MAX_TARGETS = 8
MAX_BATCH_IMAGES = 64
# Pydantic reads "0" from a form or query as a number, but not where the type is a literal.
Zero = Annotated[Literal[0], BeforeValidator(lambda value: 0 if value == "0" else value)]


class PredictOptions(BaseModel):
    """Parameters of a prediction, given as form fields, query parameters or JSON keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, description="`name` or `name/version`. Default: the default model"
    )
    top_k: NonNegativeInt = Field(5, description="Number of labels to return. 0 returns all")


class ExplainOptions(PredictOptions):
    """Parameters of an explanation."""

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
    size: Zero | Annotated[int, Field(ge=16, le=4096)] | None = Field(
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
        return self


class Prediction(TypedDict):
    """One label with its probability."""

    label: str
    index: int
    probability: float


class ImageSize(TypedDict):
    """The size of the uploaded picture as shown, with EXIF rotation applied."""

    width: int
    height: int


class Verification(TypedDict):
    """The probability of the target, and the same with a part of the picture blurred.

    The blurred ones are null if the map is empty, because it has no hottest part.
    """

    probability: float
    hot_blurred: float | None
    cold_blurred: float | None


class Explanation(TypedDict):
    """Where the evidence for one target is."""

    target: Prediction
    against: Prediction | None
    layer: str
    method: Literal["gradcam", "hirescam"]
    shape: tuple[int, int]
    cam: list[list[float]]
    empty: bool
    box: tuple[int, int, int, int] | None
    picture: NotRequired[str]
    verification: NotRequired[Verification]


class AnswerWarning(TypedDict):
    """A reason to doubt the answer: the model is not sure, or has not seen such pictures."""

    code: Literal["low_confidence", "unfamiliar"]
    message: str


class Result(TypedDict):
    """The result for one image. The warnings are about its top-1, whatever the target."""

    predictions: list[Prediction]
    image: ImageSize
    warnings: list[AnswerWarning]
    explanations: NotRequired[list[Explanation]]


class Answer(Result):
    """The answer to a call with one image."""

    model: str
    version: str


class ErrorAnswer(TypedDict):
    """An error."""

    error: ErrorDetail


class BatchAnswer(TypedDict):
    """The answer to a call with several images, in the order they were sent."""

    model: str
    version: str
    results: list[Result | ErrorAnswer]


class ModelVersion(TypedDict):
    """One version of a model."""

    version: str
    state: Literal["ready", "loading", "failed"]
    reason: str | None
    provider: str | None
    sha256: str | None
    card: dict[str, Any] | None


class ModelEntry(TypedDict):
    """One model of the repository."""

    name: str
    default: bool
    versions: list[ModelVersion]


class Models(TypedDict):
    """All models of the repository."""

    models: list[ModelEntry]


class AttentionMap(TypedDict):
    """The mean of `maps` maps, each divided by its own peak; null if there is no map."""

    maps: int
    border_share: float | None
    mean: list[list[float]] | None


class ClassAttention(TypedDict):
    """The mean map of this service and the one from the export, which may be missing."""

    observed: AttentionMap
    reference: AttentionMap | None
    distance: float | None


class AttentionAnswer(ClassAttention):
    """The mean maps of all pictures, and of each predicted label."""

    model: str
    version: str
    classes: dict[str, ClassAttention]


class Readiness(TypedDict):
    """Whether the default model can answer, the reasons if not, and its provider."""

    ready: bool
    reasons: list[str]
    provider: str | None
