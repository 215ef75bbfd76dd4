"""The route table: each endpoint stands beside the function that answers it."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.routing import Route

from service.api.operations import Operation
from service.http.request import Request

Handler = Callable[[Request], Awaitable[Response]]


class Endpoint(Route):
    """A path, a method, the function that answers, and its description for OpenAPI."""

    def __init__(self, method: str, path: str, handler: Handler, operation: Operation) -> None:
        super().__init__(path, handler, methods=[method])
        self.method = method
        self.handler = handler
        self.operation = operation
