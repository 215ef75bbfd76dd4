"""What the service answers, as typed objects. Keys that a newer service adds are passed over."""

import base64
from dataclasses import dataclass
from typing import Any

from client.errors import BadRequest


@dataclass(frozen=True)
class Prediction:
    """A label with its probability, 0 to 1."""

    label: str
    index: int
    probability: float


@dataclass(frozen=True)
class AnswerWarning:
    """A reason to doubt an answer: `code` is low_confidence or unfamiliar."""

    code: str
    message: str


@dataclass(frozen=True)
class Verification:
    """The target's probability, and with the hottest or the coldest fifth of the map blurred.

    The blurred ones are None if the map is empty.
    """

    probability: float
    hot_blurred: float | None
    cold_blurred: float | None


@dataclass(frozen=True)
class Explanation:
    """Where the evidence for one target is."""

    target: Prediction
    against: Prediction | None
    layer: str
    cam: list[list[float]]  # (h, w): the graph's signed values at the target layer's resolution
    empty: bool
    box: tuple[int, int, int, int] | None  # left, top, right, bottom in pixels of the picture
    picture: bytes | None  # a PNG, if `view` was named
    verification: Verification | None  # if `verify` was set


@dataclass(frozen=True)
class Answer:
    """What a model says of one picture."""

    model: str
    version: str
    predictions: list[Prediction]  # the most probable first
    width: int  # of the picture in pixels, as it is shown
    height: int
    warnings: list[AnswerWarning]
    explanations: list[Explanation]  # empty after `predict`

    @property
    def top(self) -> Prediction:
        """The most probable label."""
        return self.predictions[0]


@dataclass(frozen=True)
class Heatmap:
    """A drawn explanation."""

    content: bytes  # the encoded picture
    media_type: str
    model: str  # name/version
    predicted_label: str
    target_label: str
    target_probability: float
    warnings: list[str]  # the codes


def read_answer(content: dict[str, Any], result: dict[str, Any]) -> Answer:
    """Return the answer about one picture. `content` is the whole JSON, `result` its part.

    Raises:
        BadRequest: the model segments, so the answer has no predictions.
    """
    if "predictions" not in result:
        raise BadRequest(
            f"The model '{content['model']}' segments pictures, and this client reads the answers "
            "of models that classify: name one of those with `model`."
        )
    return Answer(
        content["model"],
        content["version"],
        [read_prediction(item) for item in result["predictions"]],
        result["image"]["width"],
        result["image"]["height"],
        [AnswerWarning(item["code"], item["message"]) for item in result.get("warnings", [])],
        [read_explanation(item) for item in result.get("explanations", [])],
    )


def read_prediction(item: dict[str, Any]) -> Prediction:
    """Return one label with its probability."""
    return Prediction(item["label"], item["index"], item["probability"])


def read_explanation(item: dict[str, Any]) -> Explanation:
    """Return the explanation of one target."""
    verification = item.get("verification")
    return Explanation(
        target=read_prediction(item["target"]),
        against=read_prediction(item["against"]) if item["against"] else None,
        layer=item["layer"],
        cam=item["cam"],
        empty=item["empty"],
        box=tuple(item["box"]) if item["box"] else None,
        picture=base64.b64decode(item["picture"]) if "picture" in item else None,
        verification=Verification(
            verification["probability"], verification["hot_blurred"], verification["cold_blurred"]
        )
        if verification
        else None,
    )
