"""The shapes of requests and answers: what validates them here also describes them in OpenAPI."""

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
# Text of a form or query is read as a number everywhere else, but not for a literal.
Zero = Annotated[Literal[0], BeforeValidator(lambda value: 0 if value == "0" else value)]


class PredictOptions(BaseModel):
    """Parameters of a prediction: form fields, query parameters or JSON keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="`name` or `name/version`; else the default model")
    top_k: NonNegativeInt = Field(5, description="Labels to answer; 0 is all")


class ExplainOptions(PredictOptions):
    """Parameters of an explanation."""

    target: Annotated[tuple[str, ...], Field(max_length=MAX_TARGETS)] = Field(
        (), description="Labels to explain; else the most probable one. May be repeated for JSON"
    )
    target_index: NonNegativeInt | None = Field(None, description="A label's index instead")
    target_top: Annotated[int, Field(ge=1, le=MAX_TARGETS)] | None = Field(
        None, description="Explain the n most probable labels instead; JSON only if more than one"
    )
    against: str | None = Field(None, description="Why the target and not this label")
    against_index: NonNegativeInt | None = Field(None, description="Its index instead")
    view: View | None = Field(None, description="What is drawn; `overlay` where a picture is asked")
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(0.6, description="Opacity of full heat")
    colormap: Colormap = Field(Colormap.VIRIDIS, description="Colours of heat")
    size: Zero | Annotated[int, Field(ge=16, le=4096)] | None = Field(
        None,
        description="Longer side of the drawn picture; 0 is the uploaded size; "
        "else the uploaded size kept within 224..1024",
    )
    verify: bool = Field(
        False, description="Also ask the model without the map's hottest, and its coldest, part"
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
    """The uploaded picture's size as shown, EXIF rotation applied."""

    width: int
    height: int


class Verification(TypedDict):
    """The target's probability as it is, and with a part of the picture blurred.

    Null where the map is empty: there is no hottest part then.
    """

    probability: float
    hot_blurred: float | None
    cold_blurred: float | None


class Explanation(TypedDict):
    """Where the evidence for one target lies."""

    target: Prediction
    against: Prediction | None
    layer: str
    shape: tuple[int, int]
    cam: list[list[float]]
    empty: bool
    box: tuple[int, int, int, int] | None
    picture: NotRequired[str]
    verification: NotRequired[Verification]


class Result(TypedDict):
    """What one image gets."""

    predictions: list[Prediction]
    image: ImageSize
    explanations: NotRequired[list[Explanation]]


class Answer(Result):
    """What a call with one image gets."""

    model: str
    version: str


class ErrorAnswer(TypedDict):
    """A refusal."""

    error: ErrorDetail


class BatchAnswer(TypedDict):
    """What a call with several images gets, in the order sent."""

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
    """One model of the tree."""

    name: str
    default: bool
    versions: list[ModelVersion]


class Models(TypedDict):
    """All models of the tree."""

    models: list[ModelEntry]


class AttentionMap(TypedDict):
    """A mean of so many maps, each over its own peak; null where there is none."""

    maps: int
    border_share: float | None
    mean: list[list[float]] | None


class ClassAttention(TypedDict):
    """Where the model looks here, and where it did at the export; null where the card has none."""

    observed: AttentionMap
    reference: AttentionMap | None
    distance: float | None


class AttentionAnswer(ClassAttention):
    """The same for all pictures together, and by predicted label."""

    model: str
    version: str
    classes: dict[str, ClassAttention]


class Readiness(TypedDict):
    """Whether the default model can answer, why not, and on what."""

    ready: bool
    reasons: list[str]
    provider: str | None
