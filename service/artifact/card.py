"""The artifact's card: what a model file says of itself. Knows no graph, picture or HTTP."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    model_validator,
)

TOP_1 = -1  # as a target: the row's own most probable class
MAX_SIDE = 4096  # of the model's input
MAX_LABELS = 100_000
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
Label = Annotated[str, Field(min_length=1, max_length=1000)]


class InvalidArtifact(Exception):
    """A model file that can't be served; one sentence names the file and the fault."""


class InputSpec(BaseModel):
    """How a picture becomes the pixels that the graph takes."""

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
            raise ValueError("'resize' and 'crop' are either both given or both null")
        if self.resize is not None and self.resize < max(self.height, self.width):
            raise ValueError("'resize' is smaller than the crop")
        return self

    @property
    def channels(self) -> int:
        """Channels of one pixel: 1 or 3."""
        return len(self.mode)


class GradCam(BaseModel):
    """What the compiled map explains: `layer` is the target layer's name in the network."""

    layer: str
    method: str
    compiler: str


class Golden(BaseModel):
    """One picture, and what the exporter saw for it."""

    image: str = Field(description="base64 of an encoded picture")
    target: int
    label: str
    probabilities: list[float]
    cam: list[list[float]]


class MeanMap(BaseModel):
    """Where the model looked, over many pictures; null where every map was empty."""

    count: NonNegativeInt = Field(validation_alias=AliasChoices("count", "maps"))
    border_share: Annotated[float, Field(ge=0, le=1)] | None
    mean: list[list[Annotated[float, Field(ge=0, le=1)]]] | None


class Attention(MeanMap):
    """The same over the pictures of the export, as a reference for the traffic."""

    classes: dict[str, MeanMap] = {}


class Card(BaseModel):
    """What a model file says of itself. Keys it does not know are kept."""

    model_config = ConfigDict(extra="allow")

    schema_: Literal[1] = Field(alias="schema")
    architecture: str
    task: Literal["multiclass", "multilabel"]
    labels: Annotated[list[Label], Field(min_length=1, max_length=MAX_LABELS)]
    input: InputSpec
    gradcam: GradCam
    training: dict[str, Any]
    metrics: dict[str, Any] | None
    checks: dict[str, Any]
    golden: Annotated[list[Golden], Field(min_length=2, max_length=2)]
    attention: Attention | None = None
    created: str
    tools: dict[str, Any]
    license: str

    @model_validator(mode="after")
    def _check_labels(self) -> "Card":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("'labels' must be unique")
        return self


@dataclass(frozen=True)
class Artifact:
    """A model file found fit to serve."""

    path: Path
    sha256: str
    card: Card
    raw_card: dict[str, Any]
    map_shape: tuple[int, int]  # (h, w)

    def make_batch(self, rows: int, targets: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Black pictures, each with its own top-1 as target: image [N, H, W, C], target [N, T]."""
        wanted = self.card.input
        image = np.zeros((rows, wanted.height, wanted.width, wanted.channels), np.uint8)
        return image, np.full((rows, targets), TOP_1, np.int64)
