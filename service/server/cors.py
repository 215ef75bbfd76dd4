"""Which pages of other origins a browser lets call (CORS). Knows headers and nothing else."""

from collections.abc import Collection

from service.http.request import Request, Response

ANY = "*"
EXPOSED = (
    "Retry-After, Server-Timing, X-Model, X-Predicted-Label, X-Request-Id, X-Target-Label, "
    "X-Target-Probability"
)
PREFLIGHT_SECONDS = "600"  # how long a browser may remember the answer


class Cors:
    """Says to browsers whose pages may call."""

    def __init__(self, origins: Collection[str]) -> None:
        self._origins = frozenset(origins)

    def is_preflight(self, request: Request) -> bool:
        """Whether a browser asks before it sends what a page of an allowed origin wants to."""
        asks = b"access-control-request-method" in request.headers
        return asks and request.method == "OPTIONS" and self._allows(request)

    def answer_preflight(self, request: Request, methods: Collection[str]) -> Response:
        """Go on: with these methods, and the headers asked for."""
        headers = {
            "access-control-allow-methods": ", ".join(methods),
            "access-control-allow-headers": request.header(b"access-control-request-headers"),
            "access-control-max-age": PREFLIGHT_SECONDS,
        }
        return Response(b"", "text/plain", 204, headers)

    def mark(self, request: Request, response: Response) -> None:
        """Tell the browser that the page may read the answer."""
        if not self._origins:
            return
        varies = response.headers.get("vary")
        response.headers["vary"] = f"{varies}, Origin" if varies else "Origin"
        if self._allows(request):
            response.headers["access-control-allow-origin"] = request.header(b"origin")
            response.headers["access-control-expose-headers"] = EXPOSED

    def _allows(self, request: Request) -> bool:
        origin = request.header(b"origin")
        return bool(origin) and (origin in self._origins or ANY in self._origins)
