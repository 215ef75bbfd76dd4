"""What a call sends and what it makes of the replies, without sending anything itself.

A flow is a generator. It yields a `Request` and is sent the `Reply`, or it yields a `Wait`. So the
client with and the one without asyncio share everything but the sending.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

from client.answers import Answer, Heatmap, Mask
from client.errors import ConnectionFailed, SightglassError, TooLarge
from client.options import ExplainOptions, PredictOptions, SegmentOptions, make_fields
from client.pictures import Picture, encode_picture
from client.replies import (
    Reply,
    read_batch,
    read_error,
    read_heatmap,
    read_mask,
    read_models,
    read_one,
    understand,
)

BATCH_IMAGES = 64  # the service takes no more in one request
BATCH_BYTES = 60_000_000  # of pictures; its default limit is 64 MiB, with the rest of the form
BUSY = (429, 503)
DEFAULT_WAIT = 1.0  # seconds, if the reply names none
MIN_WAIT = 0.1  # a proxy may say 0, and would be asked without end
MAX_WAIT = 3600.0  # it may also say more than a program can sleep
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
class Wait:
    """A pause in seconds."""

    seconds: float


Step: TypeAlias = Request | Wait
Outcome: TypeAlias = Reply | SightglassError | None  # of a step; None after a pause
Flow: TypeAlias = Generator[Step, Outcome, Result]


def ask(request: Request, max_wait: float, read: Callable[[Reply], Result]) -> Flow[Result]:
    """Send a request until the service has room for it; return what `read` makes of the reply.

    It waits at most `max_wait` seconds. A broken connection is tried once more, because the service
    may have closed an idle one. No call changes anything in the service.

    Raises:
        SightglassError: the reply is an error, or not the service's.
    """
    waited, is_first = 0.0, True
    while True:
        reply = yield request
        if isinstance(reply, ConnectionFailed) and is_first:
            is_first = False
            continue
        if isinstance(reply, SightglassError):
            raise reply
        assert reply is not None
        if 200 <= reply.status < 300:
            return understand(reply, read)
        pause = read_pause(reply)
        if reply.status not in BUSY or waited + pause > max_wait:
            raise understand(reply, read_error)
        yield Wait(pause)
        waited += pause


def read_pause(reply: Reply) -> float:
    """How long the service asks to wait, in seconds, within `MIN_WAIT` and `MAX_WAIT`."""
    text = reply.headers.get("retry-after", "")
    seconds = float(text) if text.isascii() and text.isdigit() else DEFAULT_WAIT
    return min(max(MIN_WAIT, seconds), MAX_WAIT)


def ask_one(
    path: str, picture: Picture, options: PredictOptions | ExplainOptions, max_wait: float
) -> Flow[Answer]:
    """Ask about one picture; the answer is JSON."""
    request = Request("POST", path, (encode_picture(picture),), make_fields(options))
    return (yield from ask(request, max_wait, read_one))


def ask_heatmap(
    picture: Picture, media_type: str, options: ExplainOptions, max_wait: float
) -> Flow[Heatmap]:
    """Ask for a drawn explanation."""
    sent, fields = (encode_picture(picture),), make_fields(options)
    request = Request("POST", "/gradcam", sent, fields, media_type)
    return (yield from ask(request, max_wait, read_heatmap))


def ask_mask(
    picture: Picture, media_type: str, options: SegmentOptions, max_wait: float
) -> Flow[Mask]:
    """Ask for a drawn mask."""
    sent, fields = (encode_picture(picture),), make_fields(options)
    request = Request("POST", "/segment", sent, fields, media_type)
    return (yield from ask(request, max_wait, read_mask))


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
    request, read = Request("POST", path, batch, fields), partial(read_batch, len(batch))
    try:
        return (yield from ask(request, max_wait, read))
    except TooLarge as exc:
        if len(batch) == 1:
            return [exc]
        half = len(batch) // 2
        first = yield from ask_batch(path, batch[:half], fields, max_wait)
        return first + (yield from ask_batch(path, batch[half:], fields, max_wait))


def ask_models(max_wait: float) -> Flow[list[dict[str, Any]]]:
    """Ask which models there are."""
    return (yield from ask(Request("GET", "/models"), max_wait, read_models))


def ask_ready() -> Flow[bool]:
    """Ask whether the service can answer now."""
    reply = yield Request("GET", "/readyz")
    return isinstance(reply, Reply) and reply.status == 200
