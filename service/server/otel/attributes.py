"""Names a finished request's facts as OpenTelemetry's semantic conventions for HTTP do.

Its address, its query and the path of an unknown route stay out: they may say what a client looks
for. This module imports nothing of OpenTelemetry.
"""

from typing import NamedTuple
from urllib.parse import urlsplit

from service.http.request import UNKNOWN_METHOD, Request

Attributes = dict[str, str | int]

KNOWN_METHODS = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
MAX_CHARACTERS = 256  # of what a client says of itself
SERVER_ERROR = 500


class Outcome(NamedTuple):
    """How a request ended. `status` is None if no answer was sent."""

    route: str | None
    status: int | None
    code: str | None  # of an error
    seconds: float

    @property
    def is_error(self) -> bool:
        """Whether it counts as failed: a client's mistake does not."""
        return self.status is None or self.status >= SERVER_ERROR


def describe_measured(request: Request, outcome: Outcome) -> Attributes:
    """The attributes of `http.server.request.duration`, and a part of a span's. All are few."""
    known = request.method in KNOWN_METHODS
    attributes: Attributes = {
        "http.request.method": request.method if known else UNKNOWN_METHOD,
        "url.scheme": request.scope["scheme"],
        "network.protocol.version": request.scope["http_version"],
    }
    if outcome.route:
        attributes["http.route"] = outcome.route
    if outcome.status is not None:
        attributes["http.response.status_code"] = outcome.status
    if outcome.is_error and outcome.code:
        attributes["error.type"] = outcome.code
    return attributes


def describe_span(request: Request, outcome: Outcome) -> tuple[str, Attributes]:
    """The name of the request's span, and its attributes."""
    attributes = describe_measured(request, outcome)
    method = str(attributes["http.request.method"])
    if method == UNKNOWN_METHOD:
        attributes["http.request.method_original"] = request.method[:MAX_CHARACTERS]
        method = "HTTP"
    if outcome.route:
        attributes["url.path"] = request.path[:MAX_CHARACTERS]
    if user_agent := request.header("user-agent"):
        attributes["user_agent.original"] = user_agent[:MAX_CHARACTERS]
    attributes |= _describe_host(request.header("host"))
    return f"{method} {outcome.route}" if outcome.route else method, attributes


def _describe_host(host: str) -> Attributes:
    """The server as the client called it; nothing if it called it by no valid name."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname, parts.port
    except ValueError:
        return {}
    if not name:
        return {}
    address: Attributes = {"server.address": name[:MAX_CHARACTERS]}
    return address if port is None else address | {"server.port": port}
