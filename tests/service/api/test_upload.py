"""Receiving an upload: the permit counts what was answered, and is always given back."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from starlette.requests import ClientDisconnect

from service.api.upload import UploadReception
from service.errors import BadRequest, PayloadTooLarge
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
    async with UploadReception(request, admission, 8, bytes) as (body, permit):
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
    assert (admission.images, admission.active_images, admission.bytes) == (0, 0, 0)
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
    assert (admission.images, admission.active_images, admission.bytes) == (0, 0, 0)
