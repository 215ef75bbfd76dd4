"""Early rejection: decided from the headers alone, with the same headers as any other response."""

import asyncio
from typing import Any

import pytest

from service.errors import Overloaded
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.lifecycle import Lifecycle
from service.repository.repository import Repository
from service.server.application import make_endpoints
from service.server.dispatcher import Dispatcher
from service.server.early_rejection import EarlyRejection
from service.settings import Settings

ORIGIN = "https://a.example"


def reject(path: str = "/predict", length: int = 9, fill: int = 1, **settings: Any) -> bytes:
    """The response to a POST when `fill` of one place are taken; empty if the task answers."""

    async def run() -> bytes | None:
        own = {"max_queue_size": 1, "cors_origins": ORIGIN}
        chosen = Settings.model_validate(own | settings)
        admission, lifecycle = Admission(chosen), Lifecycle(0)
        admission.images = fill
        repository, classifier = Repository(chosen), Classifier(chosen, admission)
        endpoints = make_endpoints(chosen, lifecycle, repository, admission, classifier)
        dispatcher = Dispatcher(chosen, lifecycle, endpoints)
        early = EarlyRejection(chosen, lifecycle, admission, endpoints, dispatcher)
        headers = [(b"content-length", str(length).encode()), (b"origin", ORIGIN.encode())]
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b""}
        return early(scope | {"headers": headers})

    return asyncio.run(run()) or b""


@pytest.mark.parametrize("path", ["/predict", "/gradcam/batch", "/v2/models/any/infer"])
def test_a_full_queue_rejects_at_once(path: str) -> None:
    head, _, body = reject(path).partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 429 Too Many Requests"
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert int(headers["content-length"]) == len(body)
    assert int(headers["retry-after"]) >= 1
    assert headers["access-control-allow-origin"] == ORIGIN
    assert {"date", "x-request-id", "x-content-type-options"} <= set(headers)
    assert Overloaded.code.encode() in body or path.startswith("/v2")


@pytest.mark.parametrize(
    "request_",
    [
        {"fill": 0},
        {"path": "/models"},
        {"path": "/nowhere"},
        {"length": 0},
        {"length": 300_000},
        {"api_keys": "key"},
    ],
    ids=str,
)
def test_the_application_answers_all_other_requests(request_: dict[str, Any]) -> None:
    assert reject(**request_) == b""
