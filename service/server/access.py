"""Who may call: clients with an API key, and pages of other origins (CORS)."""

from collections.abc import Collection, Sequence
from fnmatch import fnmatch
from hmac import compare_digest

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import BadRequest, Unauthorized
from service.http.request import EQUIVALENT_PATH, Request

EXPOSED = (
    "Inference-Header-Content-Length",
    "Retry-After",
    "Server-Timing",
    "X-Model",
    "X-Predicted-Label",
    "X-Request-Id",
    "X-Target-Label",
    "X-Target-Probability",
    "X-Verification",
    "X-Warnings",
)
PREFLIGHT_SECONDS = "600"  # how long a browser may cache the answer
MAX_REPEATED_BYTES = 1024  # of a header that an answer may repeat
PREFLIGHT = "sightglass.preflight"  # in the scope: a preflight from an allowed origin


class ApiKeys:
    """The keys that clients must send, and the paths that are open without one."""

    def __init__(self, keys: Collection[str], public_paths: Collection[str]) -> None:
        self._keys = [key.encode() for key in keys]
        self._public_paths = public_paths

    def accept(self, request: Request) -> bool:
        """Return whether the request has a key or needs none."""
        path = request.scope.get(EQUIVALENT_PATH, request.path)
        if not self._keys or any(fnmatch(path, public) for public in self._public_paths):
            return True
        scheme, _, sent = request.header("authorization").encode("latin-1").partition(b" ")
        if scheme.lower() != b"bearer":
            return False
        matches = [
            compare_digest(sent.lstrip(b" "), key) for key in self._keys
        ]  # all, in constant time
        return any(matches)

    def check(self, request: Request) -> None:
        """Check the key.

        Raises:
            Unauthorized: No valid key was sent.
        """
        if not self.accept(request):
            raise Unauthorized


class Cors(CORSMiddleware):
    """Starlette's middleware, but the application answers preflights, because it knows the paths.

    It also rejects the preflights that are not allowed, like any other request.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        super().__init__(app, origins, expose_headers=EXPOSED)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Mark preflights in the scope, and add the headers of CORS to the response."""
        headers = Headers(scope=scope)
        scope[PREFLIGHT] = False
        if len(headers.get("origin", "")) > MAX_REPEATED_BYTES:  # Starlette would repeat it
            await self.app(scope, receive, send)
            return
        asks = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        scope[PREFLIGHT] = asks and self.is_allowed_origin(headers.get("origin", ""))
        await self.simple_response(scope, receive, send, request_headers=headers)


def answer_preflight(request: Request, methods: Sequence[str]) -> Response:
    """Allow the methods, and all headers that the browser asks for.

    Raises:
        BadRequest: It asks for too many.
    """
    wanted = request.header("access-control-request-headers")
    if len(wanted) > MAX_REPEATED_BYTES:
        raise BadRequest(
            f"Access-Control-Request-Headers has more than {MAX_REPEATED_BYTES} bytes: send fewer "
            "headers."
        )
    headers = {
        "access-control-allow-methods": ", ".join(methods),
        "access-control-allow-headers": wanted,
        "access-control-max-age": PREFLIGHT_SECONDS,
    }
    return Response(status_code=204, headers=headers)
