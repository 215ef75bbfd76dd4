"""The route table: each endpoint stands beside the function that answers it."""

from collections.abc import Awaitable, Callable

from starlette import routing
from starlette.responses import Response

from service.api.operations import Operation
from service.http.request import Request

Handler = Callable[[Request], Awaitable[Response]]


class Route(routing.Route):
    """A path, a method, and the function that answers."""

    def __init__(self, method: str, path: str, handler: Handler) -> None:
        super().__init__(path, handler, methods=[method])
        self.method = method
        self.handler = handler


class Endpoint(Route):
    """A route with its description for OpenAPI."""

    def __init__(self, method: str, path: str, handler: Handler, operation: Operation) -> None:
        super().__init__(method, path, handler)
        self.operation = operation
