"""The shapes of the answers. They also describe them in OpenAPI."""

from typing import Any, Literal, NotRequired

from typing_extensions import TypeAliasType, TypedDict

from service.errors import ErrorDetail


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
    method: str
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


class ClassShare(TypedDict):
    """A class of a mask: its share of the pixels that the model saw, and their number.

    The box is around all of them. The probability is the mean over them.
    """

    label: str
    index: int
    share: float
    pixels: int
    box: tuple[int, int, int, int]
    probability: float


class ExplainedClass(TypedDict):
    """A class with its mean probability over the pixels of a region; null if it has none."""

    label: str
    index: int
    probability: float | None


class Region(TypedDict):
    """The pixels that are explained: those in a box of the picture that have the class `of`.

    Null is any class. `box` is null if the model does not see that part of the picture. `pixels`
    are those of the model's input.
    """

    of: str | None
    box: tuple[int, int, int, int] | None
    pixels: int


class RegionVerification(TypedDict):
    """The mean probability of the target over the region, also with a part of the picture blurred.

    The blurred ones are null if the map is empty. All are null if the region has no pixels.
    """

    probability: float | None
    hot_blurred: float | None
    cold_blurred: float | None


class RegionExplanation(TypedDict):
    """Where the evidence for one target in a region is."""

    target: ExplainedClass
    against: ExplainedClass | None
    region: Region
    layer: str
    method: str
    shape: tuple[int, int]
    cam: list[list[float]]
    empty: bool
    box: tuple[int, int, int, int] | None
    picture: NotRequired[str]
    verification: NotRequired[RegionVerification]


class SegmentationResult(TypedDict):
    """The result for one image of a model that segments. The largest class comes first."""

    classes: list[ClassShare]
    image: ImageSize
    warnings: list[AnswerWarning]
    mask: NotRequired[str]
    explanations: NotRequired[list[RegionExplanation]]


AnyResult = Result | SegmentationResult


class SegmentationAnswer(SegmentationResult):
    """The answer of a model that segments to a call with one image."""

    model: str
    version: str


class Answer(Result):
    """The answer to a call with one image."""

    model: str
    version: str


AnyAnswer = TypeAliasType("AnyAnswer", Answer | SegmentationAnswer)


class ErrorAnswer(TypedDict):
    """An error."""

    error: ErrorDetail


class BatchAnswer(TypedDict):
    """The answer to a call with several images, in the order they were sent."""

    model: str
    version: str
    results: list[Result | SegmentationResult | ErrorAnswer]


class EngineEntry(TypedDict):
    """What runs a version. `speedup` is of OpenVINO over onnxruntime, null if not measured."""

    name: str
    precision: str
    speedup: float | None
    reason: str | None


class ModelVersion(TypedDict):
    """One version of a model."""

    version: str
    state: Literal["ready", "loading", "failed"]
    reason: str | None
    provider: str | None
    engine: EngineEntry | None
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
