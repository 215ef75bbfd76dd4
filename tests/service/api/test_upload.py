"""Receiving an upload: the permit counts what was answered, and is always given back."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from service.api.upload import INLINE_BYTES, INLINE_RAW_BYTES, UploadReception
from service.errors import BadRequest, PayloadTooLarge
from service.http.body import Body
from service.http.request import Request
from service.inference.admission import Admission
from service.settings import Settings

PART: dict[str, Any] = {"type": "http.request", "body": b"half", "more_body": True}
END: dict[str, Any] = {"type": "http.request", "body": b"half", "more_body": False}
GONE: dict[str, Any] = {"type": "http.disconnect"}


def make_request(messages: Sequence[dict[str, Any]], length: int = 8) -> Request:
    """A request that receives these messages, and then nothing."""
    waiting = list(messages)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    headers = [(b"content-length", str(length).encode())]
    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
    return Request(scope, receive, 10)


async def receive_body(admission: Admission, request: Request, seconds: float = 0) -> bytes:
    """Receive an upload and work on it for so long."""
    async with UploadReception(request, admission, 8, bytes, is_raw=False) as (body, permit):
        assert admission.active_images == 1
        was_answered = permit.answered
        await asyncio.sleep(seconds)
        if seconds < 0:
            raise BadRequest("no")
    assert (was_answered, permit.answered) == (False, True)
    return body


def test_an_answered_upload_counts_and_gives_its_room_back() -> None:
    async def run() -> tuple[bytes, Admission]:
        admission = Admission(Settings.model_validate({}))
        return await receive_body(admission, make_request([PART, END])), admission

    body, admission = asyncio.run(run())
    assert body == b"halfhalf"
    assert (admission.images, admission.active_images, admission.memory.bytes) == (0, 0, 0)
    assert admission.predict_wait() == 0


@pytest.mark.parametrize(
    ("messages", "length", "seconds", "error"),
    [
        ([PART, GONE], 8, 0, ClientDisconnect),
        ([PART, END, GONE], 8, 60, ClientDisconnect),
        ([PART, END], 8, -1, BadRequest),
        ([PART, PART, END], 8, 0, PayloadTooLarge),
        ([], 9, 0, PayloadTooLarge),
    ],
)
def test_a_failed_upload_gives_its_room_back(
    messages: list[dict[str, Any]], length: int, seconds: float, error: type[Exception]
) -> None:
    async def run() -> Admission:
        admission = Admission(Settings.model_validate({}))
        with pytest.raises(error):
            await receive_body(admission, make_request(messages, length), seconds)
        return admission

    admission = asyncio.run(run())
    assert (admission.images, admission.active_images, admission.memory.bytes) == (0, 0, 0)


@pytest.mark.parametrize(
    ("size", "is_raw", "is_inline"),
    [
        (INLINE_BYTES, False, True),
        (INLINE_BYTES + 1, False, False),
        (INLINE_BYTES + 1, True, True),
        (INLINE_RAW_BYTES + 1, True, False),
    ],
)
def test_a_body_is_parsed_on_the_event_loop_only_if_that_is_short(
    size: int, is_raw: bool, is_inline: bool
) -> None:
    async def run() -> threading.Thread:
        admission = Admission(Settings.model_validate({}))
        message = {"type": "http.request", "body": bytes(size), "more_body": False}
        request = make_request([message], size)

        def parse(_: Body) -> threading.Thread:
            return threading.current_thread()

        async with UploadReception(request, admission, size, parse, is_raw=is_raw) as (used, _):
            return used

    assert (asyncio.run(run()) is threading.current_thread()) == is_inline
