"""What the service answers, as typed objects."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.errors import BadRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are exclusive
OUTSIDE = 255  # the value of a mask where the model does not see the picture


@dataclass(frozen=True)
class Prediction:
    """A label with its probability, 0 to 1."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class ClassShare:
    """What a model that segments says of one class."""

    label: str
    index: int  # its value in the mask
    share: float  # of the pixels that the model saw, 0 to 1
    pixels: int
    box: Box  # around all its pixels, in pixels of the picture
    probability: float  # the mean over its pixels


@dataclass(frozen=True)
class Mask:
    """A drawn mask: with the view `mask` the classes as values, with `overlay` over the picture."""

    content: bytes  # the encoded picture
    media_type: str
    model: str  # name/version

    def read_classes(self) -> "NDArray[np.uint8]":
        """Return the index of each pixel's class, (height, width). 255: the model sees nothing.

        Raises:
            ValueError: it is drawn over the picture, so its values are no classes.
        """
        import numpy as np
        from PIL import Image

        with Image.open(io.BytesIO(self.content)) as image:
            if image.mode != "P":
                raise ValueError('Only a mask drawn with `view="mask"` has the classes as values.')
            return np.asarray(image)


@dataclass(frozen=True)
class AnswerWarning:
    """A reason to doubt an answer: `code` is low_confidence or unfamiliar."""

    code: str
    message: str


@dataclass(frozen=True)
class Verification:
    """The target's probability, and with the hottest or the coldest fifth of the map blurred.

    The blurred ones are None if the map is empty, and all if the region has no pixels.
    """

    probability: float | None
    hot_blurred: float | None
    cold_blurred: float | None


@dataclass(frozen=True)
class Target:
    """An explained class. A model that segments gives the mean probability over the region."""

    label: str
    index: int
    probability: float | None  # None if the region has no pixels


@dataclass(frozen=True)
class Region:
    """The pixels that a map of a model that segments explains."""

    of: str | None  # the class of the pixels; None: of any
    box: Box | None  # in pixels of the picture; None if the model does not see it
    pixels: int  # of the model's input


@dataclass(frozen=True)
class Explanation:
    """Where the evidence for one target is."""

    target: Target
    against: Target | None
    layer: str
    cam: list[list[float]]  # (h, w): the graph's signed values at the target layer's resolution
    empty: bool
    box: Box | None  # around the hottest part, in pixels of the picture
    picture: bytes | None  # a PNG, if `view` was named
    verification: Verification | None  # if `verify` was set
    region: Region | None  # if the model segments


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture."""

    model: str
    version: str
    predictions: list[Prediction]  # the most probable first; empty if the model segments
    classes: list[ClassShare]  # the largest first; empty if the model classifies
    mask: Mask | None  # if `mask` was set
    width: int  # of the picture in pixels, as it is shown
    height: int
    warnings: list[AnswerWarning]
    explanations: list[Explanation]  # empty after `predict`

    @property
    def top(self) -> Prediction:
        """The most probable label.

        Raises:
            BadRequest: the model segments, so its answer has classes and no predictions.
        """
        if not self.predictions:
            raise BadRequest(
                f"The model '{self.model}' segments pictures, so no label is the most probable: "
                "read `classes`, or name a model that classifies with `model`."
            )
        return self.predictions[0]


@dataclass(frozen=True)
class Heatmap:
    """A drawn explanation."""

    content: bytes  # the encoded picture
    media_type: str
    model: str  # name/version
    predicted_label: str
    target_label: str
    target_probability: float | None  # None if the region has no pixels
    warnings: list[str]  # the codes
