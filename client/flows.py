"""What a call sends and what it makes of the replies, without sending anything itself.

A flow is a generator. It yields a `Request` and is sent the `Reply`, or it yields a `Wait`. So the
client with and the one without asyncio share everything but the sending.
"""

import json
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

from client.answers import Answer, Heatmap, Mask, read_answer
from client.errors import ConnectionFailed, ServiceFailure, SightglassError, TooLarge, make_error
from client.options import ExplainOptions, PredictOptions, SegmentOptions, make_fields
from client.pictures import Picture, encode_picture

BATCH_IMAGES = 64  # the service takes no more in one request
BATCH_BYTES = 60_000_000  # of pictures; its default limit is 64 MiB, with the rest of the form
BUSY = (429, 503)
DEFAULT_WAIT = 1.0  # seconds, if the reply names none
MIN_WAIT = 0.1  # a proxy may say 0, and would be asked without end
JSON = "application/json"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Request:
    """One HTTP request; with pictures it is a form."""

    method: str
    path: str
    pictures: tuple[bytes, ...] = ()
    fields: dict[str, str | list[str]] = field(default_factory=dict)
    accept: str = JSON


@dataclass(frozen=True)
class Reply:
    """The HTTP response. The names of the headers are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes


@dataclass(frozen=True)
class Wait:
    """A pause in seconds."""

    seconds: float


Step: TypeAlias = Request | Wait
Outcome: TypeAlias = Reply | ConnectionFailed | None  # of a step; None after a pause
Flow: TypeAlias = Generator[Step, Outcome, Result]


def ask(request: Request, max_wait: float) -> Flow[Reply]:
    """Send a request until the service has room for it. It waits at most `max_wait` seconds.

    A broken connection is tried once more, because the service may have closed an idle one. No
    call changes anything in the service.

    Raises:
        SightglassError: the reply is an error.
    """
    waited, is_first = 0.0, True
    while True:
        reply = yield request
        if isinstance(reply, ConnectionFailed):
            if not is_first:
                raise reply
            is_first = False
            continue
        assert reply is not None
        if reply.status < 400:
            return reply
        pause = read_pause(reply)
        if reply.status not in BUSY or waited + pause > max_wait:
            raise read_error(reply)
        yield Wait(pause)
        waited += pause


def read_pause(reply: Reply) -> float:
    """How long the service asks to wait, in seconds; at least `MIN_WAIT`."""
    text = reply.headers.get("retry-after", "")
    return max(MIN_WAIT, float(text)) if text.isascii() and text.isdigit() else DEFAULT_WAIT


def read_error(reply: Reply) -> SightglassError:
    """Return the exception for a reply. A proxy's own error is one, too."""
    try:
        error = json.loads(reply.content)["error"]
        return make_error(error["code"], error["message"], reply.status, error["request_id"])
    except (ValueError, KeyError, TypeError):
        message = f"The answer has the status {reply.status} and is not the service's."
        return ServiceFailure(message, reply.status, reply.headers.get("x-request-id", ""))


def ask_one(
    path: str, picture: Picture, options: PredictOptions | ExplainOptions, max_wait: float
) -> Flow[Answer]:
    """Ask about one picture; the answer is JSON."""
    request = Request("POST", path, (encode_picture(picture),), make_fields(options))
    reply = yield from ask(request, max_wait)
    content = read_json(reply)
    return read_answer(content, content)


def ask_heatmap(
    picture: Picture, media_type: str, options: ExplainOptions, max_wait: float
) -> Flow[Heatmap]:
    """Ask for a drawn explanation."""
    sent, fields = (encode_picture(picture),), make_fields(options)
    reply = yield from ask(Request("POST", "/gradcam", sent, fields, media_type), max_wait)
    headers = reply.headers
    probability = headers.get("x-target-probability")
    try:
        return Heatmap(
            reply.content,
            headers["content-type"],
            headers["x-model"],
            unquote(headers["x-predicted-label"]),
            unquote(headers["x-target-label"]),
            float(probability) if probability else None,
            [code.strip() for code in headers.get("x-warnings", "").split(",") if code.strip()],
        )
    except KeyError as exc:
        raise ServiceFailure(f"The answer has no header {exc}.", reply.status) from None


def ask_mask(
    picture: Picture, media_type: str, options: SegmentOptions, max_wait: float
) -> Flow[Mask]:
    """Ask for a drawn mask."""
    sent, fields = (encode_picture(picture),), make_fields(options)
    reply = yield from ask(Request("POST", "/segment", sent, fields, media_type), max_wait)
    try:
        return Mask(reply.content, reply.headers["content-type"], reply.headers["x-model"])
    except KeyError as exc:
        raise ServiceFailure(f"The answer has no header {exc}.", reply.status) from None


def ask_many(
    path: str,
    pictures: Iterable[Picture],
    options: PredictOptions | ExplainOptions,
    max_wait: float,
) -> Flow[list[Answer | SightglassError]]:
    """Ask about many pictures, in requests that the service takes.

    If a picture has a fault, its place in the list has the exception.
    """
    results: list[Answer | SightglassError] = []
    fields = make_fields(options)
    for batch in cut(map(encode_picture, pictures)):
        results += yield from ask_batch(path, batch, fields, max_wait)
    return results


def cut(pictures: Iterator[bytes]) -> Iterator[tuple[bytes, ...]]:
    """Cut pictures into batches."""
    batch: list[bytes] = []
    size = 0
    for picture in pictures:
        if batch and (len(batch) == BATCH_IMAGES or size + len(picture) > BATCH_BYTES):
            yield tuple(batch)
            batch, size = [], 0
        batch.append(picture)
        size += len(picture)
    if batch:
        yield tuple(batch)


def ask_batch(
    path: str, batch: tuple[bytes, ...], fields: dict[str, str | list[str]], max_wait: float
) -> Flow[list[Answer | SightglassError]]:
    """Send one batch. If it is too large for this service, send its halves."""
    try:
        reply = yield from ask(Request("POST", path, batch, fields), max_wait)
    except TooLarge as exc:
        if len(batch) == 1:
            return [exc]
        half = len(batch) // 2
        first = yield from ask_batch(path, batch[:half], fields, max_wait)
        return first + (yield from ask_batch(path, batch[half:], fields, max_wait))
    content = read_json(reply)
    request_id = reply.headers.get("x-request-id", "")
    return [read_result(content, result, request_id) for result in content["results"]]


def read_result(
    content: dict[str, Any], result: dict[str, Any], request_id: str
) -> Answer | SightglassError:
    """Return what a batch says of one of its pictures."""
    if error := result.get("error"):
        return make_error(error["code"], error["message"], request_id=request_id)
    return read_answer(content, result)


def ask_models(max_wait: float) -> Flow[list[dict[str, Any]]]:
    """Ask which models there are."""
    reply = yield from ask(Request("GET", "/models"), max_wait)
    models: list[dict[str, Any]] = read_json(reply)["models"]
    return models


def ask_ready() -> Flow[bool]:
    """Ask whether the service can answer now."""
    reply = yield Request("GET", "/readyz")
    return isinstance(reply, Reply) and reply.status == 200


def read_json(reply: Reply) -> dict[str, Any]:
    """Return the JSON object of a reply."""
    try:
        content = json.loads(reply.content)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ServiceFailure("The answer is not the service's: it is no JSON.", reply.status)
    return content
