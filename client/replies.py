"""Reads replies into typed objects. Keys that a newer service adds are passed over.

The functions do not catch what a reply causes that is not the service's. `understand` does it for
all of them. Knows nothing of how a reply comes here.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote

from client.answers import (
    Answer,
    AnswerWarning,
    Box,
    ClassShare,
    Explanation,
    Heatmap,
    Mask,
    Prediction,
    Region,
    Target,
    Verification,
)
from client.errors import ServiceFailure, SightglassError, make_error

# What reading a reply raises if it is not the service's.
FOREIGN = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
NUMBERS = {int, float}  # the types of JSON's numbers

Result = TypeVar("Result")
Kind = TypeVar("Kind")


@dataclass(frozen=True)
class Reply:
    """The HTTP response. The names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes


def understand(reply: Reply, read: Callable[[Reply], Result]) -> Result:
    """Return what `read` makes of a reply. All replies are read here, also errors.

    Raises:
        ServiceFailure: the reply is not the service's, but perhaps a proxy's.
    """
    try:
        return read(reply)
    except FOREIGN as exc:
        raise ServiceFailure(
            f"The answer has the status {reply.status} and is not the service's.",
            reply.status,
            reply.headers.get("x-request-id", ""),
        ) from exc


def read_error(reply: Reply) -> SightglassError:
    """Return the exception for a reply."""
    error = read_json(reply)["error"]
    return make_error(
        *(take(error, "code", str), take(error, "message", str), reply.status),
        take(error, "request_id", str),
    )


def read_one(reply: Reply) -> Answer:
    """Return the answer about one picture."""
    content = read_json(reply)
    return read_answer(content, content)


def read_heatmap(reply: Reply) -> Heatmap:
    """Return the drawn explanation of a reply."""
    headers = reply.headers
    probability = headers.get("x-target-probability")
    return Heatmap(
        reply.content,
        headers["content-type"],
        headers["x-model"],
        unquote(headers["x-predicted-label"]),
        unquote(headers["x-target-label"]),
        float(probability) if probability else None,
        [code.strip() for code in headers.get("x-warnings", "").split(",") if code.strip()],
    )


def read_mask(reply: Reply) -> Mask:
    """Return the drawn mask of a reply."""
    return Mask(reply.content, reply.headers["content-type"], reply.headers["x-model"])


def read_batch(count: int, reply: Reply) -> list[Answer | SightglassError]:
    """Return what a reply says of each of `count` pictures."""
    content = read_json(reply)
    results = take(content, "results", list)
    if len(results) != count:
        raise ValueError(f"{len(results)} results for {count} pictures")
    request_id = reply.headers.get("x-request-id", "")
    return [read_result(content, result, request_id) for result in results]


def read_result(
    content: dict[str, Any], result: dict[str, Any], request_id: str
) -> Answer | SightglassError:
    """Return what a batch says of one of its pictures."""
    if error := result.get("error"):
        code, message = take(error, "code", str), take(error, "message", str)
        return make_error(code, message, request_id=request_id)
    return read_answer(content, result)


def read_models(reply: Reply) -> list[dict[str, Any]]:
    """Return the models of a reply."""
    models = take(read_json(reply), "models", list)
    if not all(isinstance(model, dict) for model in models):
        raise TypeError("a model is no JSON object")
    return models


def read_json(reply: Reply) -> dict[str, Any]:
    """Return the JSON object of a reply."""
    content = json.loads(reply.content)
    if not isinstance(content, dict):
        raise TypeError("the answer is no JSON object")
    return content


def read_answer(content: dict[str, Any], result: dict[str, Any]) -> Answer:
    """Return the answer about one picture. `content` is the whole JSON, `result` its part."""
    model, version = take(content, "model", str), take(content, "version", str)
    mask = None
    if "mask" in result:
        mask = Mask(read_picture(result, "mask"), "image/png", f"{model}/{version}")
    size = take(result, "image", dict)
    return Answer(
        model,
        version,
        [read_prediction(item) for item in result.get("predictions", [])],
        [read_class(item) for item in result.get("classes", [])],
        mask,
        take(size, "width", int),
        take(size, "height", int),
        [
            AnswerWarning(take(item, "code", str), take(item, "message", str))
            for item in result.get("warnings", [])
        ],
        [read_explanation(item) for item in result.get("explanations", [])],
    )


def read_prediction(item: dict[str, Any]) -> Prediction:
    """Return one label with its probability."""
    label, index = take(item, "label", str), take(item, "index", int)
    return Prediction(label, index, read_number(item["probability"]))


def read_class(item: dict[str, Any]) -> ClassShare:
    """Return one class of a mask."""
    return ClassShare(
        take(item, "label", str),
        take(item, "index", int),
        read_number(item["share"]),
        take(item, "pixels", int),
        read_box(take(item, "box", list)),
        read_number(item["probability"]),
    )


def read_explanation(item: dict[str, Any]) -> Explanation:
    """Return the explanation of one target."""
    return Explanation(
        target=read_target(item["target"]),
        against=read_optional(item["against"], read_target),
        layer=take(item, "layer", str),
        cam=read_map(take(item, "cam", list)),
        empty=take(item, "empty", bool),
        box=read_optional(item["box"], read_box),
        picture=read_picture(item, "picture") if "picture" in item else None,
        verification=read_optional(item.get("verification"), read_verification),
        region=read_optional(item.get("region"), read_region),
    )


def read_target(item: dict[str, Any]) -> Target:
    """Return one explained class."""
    label, index = take(item, "label", str), take(item, "index", int)
    return Target(label, index, read_optional(item["probability"], read_number))


def read_verification(item: dict[str, Any]) -> Verification:
    """Return the probabilities with and without the hottest and coldest parts."""
    names = ("probability", "hot_blurred", "cold_blurred")
    return Verification(*(read_optional(item[name], read_number) for name in names))


def read_region(item: dict[str, Any]) -> Region:
    """Return the pixels that a map explains."""
    of = None if item["of"] is None else take(item, "of", str)
    return Region(of, read_optional(item["box"], read_box), take(item, "pixels", int))


def read_number(value: Any) -> float:
    """Return a number of the answer."""
    if type(value) not in NUMBERS:
        raise TypeError("a value is no number")
    return float(value)


def read_map(rows: list[Any]) -> list[list[float]]:
    """Return the values of a map, (h, w)."""
    if any(type(row) is not list or not NUMBERS.issuperset(map(type, row)) for row in rows):
        raise TypeError("the map is not rows of numbers")
    return rows


def read_picture(item: dict[str, Any], name: str) -> bytes:
    """Return the bytes of a picture."""
    return base64.b64decode(take(item, name, str))


def read_box(sides: list[Any]) -> Box:
    """Return a box of the answer."""
    left, top, right, bottom = sides
    if {type(side) for side in sides} != {int}:
        raise TypeError("a side of the box is no integer")
    return left, top, right, bottom


def read_optional(value: Any, read: Callable[[Any], Kind]) -> Kind | None:
    """Return what `read` makes of a value, or None if there is none."""
    return None if value is None else read(value)


def take(item: dict[str, Any], name: str, kind: type[Kind]) -> Kind:
    """Return a value of a JSON object, which must be of this type."""
    value = item[name]
    if not isinstance(value, kind):
        raise TypeError(f"{name} is no {kind.__name__}")
    return value
