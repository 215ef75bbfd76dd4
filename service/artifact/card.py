"""The card: the description that a model file carries. Knows no graph, image or HTTP."""

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    field_validator,
    model_validator,
)

FAMILIARITY = "familiarity"
OUTPUTS = ("logits", "probabilities", "cam")  # of every graph that classifies
MASK_OUTPUTS = ("mask", "probabilities", "cam")  # of every graph that segments
TOP_1 = -1  # as a target: the most probable class of the row itself; the largest in its region
SEGMENTATION = "segmentation"
MAX_MASK_LABELS = 255  # a mask has a byte for each pixel, and one value is for what was not seen
MAX_SIDE = 4096  # of the model's input
MAX_LABELS = 100_000
MAX_MEAN_MAPS = 1000  # of single labels
MAX_EXAMPLE_BYTES = 200_000  # of all examples of a card together, in base64
EXAMPLE_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF")  # JPEG, PNG, WebP
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Label = Annotated[str, Field(min_length=1, max_length=1000)]
Probability = Annotated[float, Field(ge=0, le=1)]
Score = Annotated[float, Field(allow_inf_nan=False)]
Colour = Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]


class RegionTarget(NamedTuple):
    """A class to explain, and the pixels for which it is explained, in pixels of the model's input.

    They are those in the half-open box that the model gives the class `of`.
    """

    target: int  # or `TOP_1`
    of: int  # or `AS_TARGET` or `ANYTHING`
    left: int
    top: int
    right: int
    bottom: int


AS_TARGET, ANYTHING = -1, -2


class InvalidArtifact(Exception):
    """A model file that cannot be served. One sentence names the file and the fault."""


class InputSpec(BaseModel):
    """How an image becomes the pixels that the graph takes."""

    model_config = ConfigDict(frozen=True)

    mode: Literal["L", "RGB"]
    height: Side
    width: Side
    resize: Side | None = Field(description="Shorter side; null is exactly height x width")
    crop: Literal["center"] | None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]

    @model_validator(mode="after")
    def _check_crop(self) -> "InputSpec":
        if (self.resize is None) != (self.crop is None):
            raise ValueError("'resize' and 'crop' must both be set or both be null")
        if self.resize is not None and self.resize < max(self.height, self.width):
            raise ValueError("'resize' must not be smaller than 'height' or 'width'")
        return self

    @property
    def channels(self) -> int:
        """Return the channels of one pixel: 1 or 3."""
        return len(self.mode)


class GradCam(BaseModel):
    """How the map was compiled; `layer` is the name of the target layer in the network."""

    layer: str
    method: Literal["gradcam", "hirescam", "seg-hirescam", "seg-gradcam"]
    compiler: str


class Golden(BaseModel):
    """A golden test: an image, and what the model answered for it at the export.

    A model that classifies has `probabilities`. One that segments has the last three instead.
    """

    image: str = Field(description="An encoded image, in base64")
    target: int
    label: str
    cam: list[list[float]]
    probabilities: list[float] = []
    region: tuple[int, int, int, int, int] | None = Field(
        None, description="of, left, top, right, bottom, as the graph takes them"
    )
    shares: list[float] = Field([], description="The share of the pixels that each class has")
    mask: str = Field("", description="The class of each pixel, as a gray PNG in base64")


class MeanMap(BaseModel):
    """The mean of the maps of many images; null if every map was empty."""

    count: NonNegativeInt = Field(validation_alias=AliasChoices("count", "maps"))
    border_share: Annotated[float, Field(ge=0, le=1)] | None
    mean: list[list[Annotated[float, Field(ge=0, le=1)]]] | None


class Attention(MeanMap):
    """The mean map of the images used at the export, as a reference for the traffic."""

    classes: Annotated[dict[str, MeanMap], Field(max_length=MAX_MEAN_MAPS)] = {}


class Unfamiliar(BaseModel):
    """A score of how like the held-out pictures a picture is. Below `threshold` it is unlike them.

    `largest_logit` is the largest logit. `energy` is that less the logarithm of the largest
    probability: the logarithm of the sum of the exponentials of all logits, if the probabilities
    are their softmax. `familiarity` is the graph's output of that name.
    """

    score: Literal["largest_logit", "energy", "familiarity"]
    threshold: Score | None


class Confidence(BaseModel):
    """What an answer must reach so that no warning comes with it; null: there is no such warning.

    `threshold` is for the probability of the top-1. A multi-label model has one for each label.
    """

    threshold: Probability | list[Probability] | None = None
    unfamiliar: Unfamiliar | None = None


class Example(BaseModel):
    """A picture to try, for people. Its texts and bytes are as untrusted as the file."""

    image: Annotated[str, Field(max_length=MAX_EXAMPLE_BYTES)] = Field(
        description="A JPEG, PNG or WebP, in base64"
    )
    title: Annotated[str, Field(min_length=1, max_length=80)]
    label: Label | None = None
    credit: Annotated[str, Field(max_length=400)] | None = None

    @field_validator("image")
    @classmethod
    def _check_image(cls, value: str) -> str:
        try:
            content = base64.b64decode(value, validate=True)
        except ValueError:
            content = b""
        if not content.startswith(EXAMPLE_SIGNATURES):
            raise ValueError("an example's 'image' must be a JPEG, PNG or WebP in base64")
        return value


class Card(BaseModel):
    """What is known of the description that a model file carries. It may have other keys."""

    schema_: Literal[1] = Field(alias="schema")
    architecture: str
    task: Literal["multiclass", "multilabel", "segmentation"]
    labels: Annotated[list[Label], Field(min_length=1, max_length=MAX_LABELS)]
    palette: list[Colour] | None = None
    background: NonNegativeInt | None = None
    input: InputSpec
    precision: str = "fp32"
    requires: list[Literal["vnni"]] = []
    engines: list[str] | None = Field(
        None, description="Those whose answers stayed within bounds; null: they were not judged"
    )
    gradcam: GradCam
    training: dict[str, Any]
    metrics: dict[str, Any] | None
    checks: dict[str, Any]
    golden: Annotated[list[Golden], Field(min_length=2, max_length=2)]
    attention: Attention | None = None
    confidence: Confidence | None = None
    title: Annotated[str, Field(min_length=1, max_length=80)] | None = None
    summary: Annotated[str, Field(max_length=400)] | None = None
    examples: Annotated[list[Example], Field(max_length=6)] = []
    created: str
    tools: dict[str, Any]
    license: str

    @property
    def outputs(self) -> tuple[str, ...]:
        """Return the outputs of the graph that are needed: `familiarity` only if it is judged."""
        if self.segments:
            return MASK_OUTPUTS
        unfamiliar = self.confidence and self.confidence.unfamiliar
        is_judged = unfamiliar and unfamiliar.score == FAMILIARITY
        return (*OUTPUTS, FAMILIARITY) if is_judged else OUTPUTS

    @property
    def segments(self) -> bool:
        """Return whether the model gives each pixel a class, not the whole picture."""
        return self.task == SEGMENTATION

    @model_validator(mode="after")
    def _check_segmentation(self) -> "Card":
        if self.segments:
            count = len(self.labels)
            if count > MAX_MASK_LABELS:
                raise ValueError(f"a mask can have {MAX_MASK_LABELS} labels, but it has {count}")
            if self.palette is not None and len(self.palette) != count:
                raise ValueError(f"'palette' must have one colour for each of the {count} labels")
            if self.background is not None and self.background >= count:
                raise ValueError("'background' must be the index of a label, or null")
            if self.confidence is not None:
                raise ValueError("'confidence' is for models that classify")
        if self.segments != self.gradcam.method.startswith("seg-"):
            raise ValueError(f"'gradcam.method' can't be '{self.gradcam.method}' with this task")
        return self

    @model_validator(mode="after")
    def _check_golden(self) -> "Card":
        needed = ("region", "shares", "mask") if self.segments else ("probabilities",)
        for number, golden in enumerate(self.golden):
            for name in needed:
                if not getattr(golden, name):
                    raise ValueError(f"'golden.{number}.{name}' is missing")
        return self

    @model_validator(mode="after")
    def _check_labels(self) -> "Card":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("'labels' must be unique")
        return self

    @model_validator(mode="after")
    def _check_examples(self) -> "Card":
        if sum(len(example.image) for example in self.examples) > MAX_EXAMPLE_BYTES:
            raise ValueError(f"'examples' must have at most {MAX_EXAMPLE_BYTES} bytes in base64")
        labels = {example.label for example in self.examples} - {None}
        if not labels <= set(self.labels):
            raise ValueError("the label of an example must be one of 'labels'")
        return self

    @model_validator(mode="after")
    def _check_thresholds(self) -> "Card":
        threshold = None if self.confidence is None else self.confidence.threshold
        if threshold is not None and isinstance(threshold, list) != (self.task == "multilabel"):
            raise ValueError("'confidence.threshold' must be a list for multi-label models only")
        if isinstance(threshold, list) and len(threshold) != len(self.labels):
            raise ValueError("'confidence.threshold' must have one number for each label")
        return self


@dataclass(frozen=True)
class Artifact:
    """A validated model file."""

    path: Path
    sha256: str
    card: Card
    public_card: bytes  # as JSON, with unknown keys, but without the golden tests
    map_shape: tuple[int, int]  # (h, w)
    is_steady: bool  # the same work for every picture

    def make_batch(self, rows: int, targets: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Make black images that explain their own top-1: image [N, H, W, C], target [N, T].

        If the model segments, each target has its region, which is the whole image: [N, T, 6].
        """
        spec = self.card.input
        image = np.zeros((rows, spec.height, spec.width, spec.channels), np.uint8)
        if self.card.segments:
            whole = RegionTarget(TOP_1, AS_TARGET, 0, 0, spec.width, spec.height)
            return image, np.tile(np.array(whole, np.int64), (rows, targets, 1))
        return image, np.full((rows, targets), TOP_1, np.int64)
