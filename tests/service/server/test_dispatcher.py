"""Dispatch: which endpoint answers, and what is added to its response."""

import asyncio
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from service.api.operations import Operation
from service.api.routing import Endpoint
from service.http.request import Request
from service.http.response import JSONResponse
from service.inference.admission import Admission
from service.lifecycle import Lifecycle
from service.server.access import Cors
from service.server.dispatcher import MAX_PATH_CHARACTERS, Dispatcher
from service.settings import Settings

ORIGIN = "https://a.example"


async def show(request: Request) -> Response:
    """Answer with the method and the parameters of the path."""
    return JSONResponse({"method": request.method, **request.path_params})


async def wait_for_ever(_: Request) -> Response:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


async def fail(_: Request) -> Response:
    """Fail by a mistake of ours."""
    raise ZeroDivisionError


def make_endpoint(method: str, path: str, handler: Any = show) -> Endpoint:
    """An endpoint with an empty description."""
    return Endpoint(method, path, handler, Operation(path, path, {}))


ENDPOINTS = [
    make_endpoint("GET", "/things"),
    make_endpoint("POST", "/things"),
    make_endpoint("GET", "/things/{name}"),
    make_endpoint("GET", "/things/{name}/parts/{part}"),
    make_endpoint("GET", "/slow", wait_for_ever),
    make_endpoint("GET", "/wrong", fail),
]


class Client:
    """A client of an application with these endpoints, in this process."""

    def __init__(self, lifecycle: Lifecycle | None = None, **settings: Any) -> None:
        checked = Settings.model_validate(settings)
        self.admission = Admission(checked)
        dispatcher = Dispatcher(checked, lifecycle or Lifecycle(0), ENDPOINTS, self.admission)
        self._app = Cors(dispatcher, [ORIGIN])

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request."""
        return asyncio.run(self._ask(method, path, options))

    async def _ask(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, **options)


def test_the_method_chooses_between_endpoints_of_one_path() -> None:
    client = Client()
    assert client.ask("GET", "/things").json() == {"method": "GET"}
    assert client.ask("POST", "/things", content=b"x").json() == {"method": "POST"}
    assert client.ask("HEAD", "/things").status_code == 200
    refused = client.ask("DELETE", "/things")
    assert refused.status_code == 405
    assert refused.headers["allow"] == "GET, POST"


def test_parameters_of_the_path_reach_the_handler() -> None:
    client = Client()
    expected = {"method": "GET", "name": "a b", "part": "c"}
    assert client.ask("GET", "/things/a%20b/parts/c").json() == expected
    assert client.ask("GET", "/things/a/b").status_code == 404
    longest = MAX_PATH_CHARACTERS - len("/things//parts/c")
    for length, status in ((longest, 200), (longest + 1, 404)):
        assert client.ask("GET", f"/things/{'a' * length}/parts/c").status_code == status


@pytest.mark.parametrize("path", ["/things", "/slow", "/nowhere"])
def test_a_preflight_is_answered_alike_for_every_path(path: str) -> None:
    headers = {"origin": ORIGIN, "access-control-request-method": "POST"}
    response = Client(api_keys="key").ask("OPTIONS", path, headers=headers)
    assert response.status_code == 204
    assert response.headers["access-control-allow-methods"] == "GET, POST"
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["x-request-id"]


def test_a_handler_that_does_not_answer_is_a_timeout() -> None:
    response = Client(request_timeout_ms=50).ask("GET", "/slow")
    assert response.status_code == 504
    assert response.json()["error"]["code"] == "timeout"


def test_a_mistake_of_ours_is_an_internal_error_without_its_reason() -> None:
    response = Client().ask("GET", "/wrong")
    assert response.status_code == 500
    assert "division" not in response.text
    assert response.json()["error"]["request_id"] == response.headers["x-request-id"]


@pytest.mark.parametrize(("closed", "status"), [(False, 200), (True, 503)])
def test_a_server_that_drains_closes_its_connections(closed: bool, status: int) -> None:
    lifecycle = Lifecycle(0)
    lifecycle.draining, lifecycle.closed = True, closed
    response = Client(lifecycle).ask("GET", "/things")
    assert response.status_code == status
    assert response.headers["connection"] == "close"
