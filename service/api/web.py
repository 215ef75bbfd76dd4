"""The pages for a browser: the page, the interactive docs and their parts. All files are local."""

import asyncio
import gzip
import mimetypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from starlette.responses import Response

from service.api.openapi import make_openapi
from service.api.operations import Operation
from service.api.routing import Endpoint
from service.errors import NotFound, excerpt
from service.http.compression import GZIP, IDENTITY, choose_encoding
from service.http.form import JSON_TYPE
from service.http.request import Request
from service.http.response import encode_json
from service.imaging.heatmap import COLORMAPS_FILE

PAGE_DIR = Path(__file__).parents[1] / "page"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors {ancestors}"
)
SECURITY_HEADERS = {
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class WebPages:
    """`/`, `/docs`, their parts, and the description of all endpoints."""

    def __init__(
        self, endpoints: Sequence[Endpoint], needs_key: bool, frame_ancestors: Sequence[str] = ()
    ) -> None:
        self._described = [*endpoints, *self.endpoints()]
        self._needs_key = needs_key
        self._frame_ancestors = frame_ancestors
        self._making = asyncio.Lock()
        self._document: bytes | None = None

    def endpoints(self) -> list[Endpoint]:
        """Return this part of the route table."""
        return [
            Endpoint("GET", "/", self.index, Operation(
                "page", "Return the page for people", {"text/html": {}},
            )),
            Endpoint("GET", "/embed", self.embed, Operation(
                "embed", "Return the page for a frame on another site", {"text/html": {}},
                (NotFound,),
            )),
            Endpoint("GET", "/docs", self.docs, Operation(
                "docs", "Return the interactive docs", {"text/html": {}},
            )),
            Endpoint("GET", "/page/{name:path}", self.part, Operation(
                "part", "Return a file that a page loads", {"*/*": {}}, (NotFound,),
            )),
            Endpoint("GET", "/openapi.json", self.openapi, Operation(
                "openapi", "Return this document", {JSON_TYPE: {}},
            )),
        ]  # fmt: skip

    async def index(self, request: Request) -> Response:
        """`GET /`: the page."""
        return serve_file("index.html", request)

    async def embed(self, request: Request) -> Response:
        """`GET /embed`: the page for a frame, if a site is allowed to show it."""
        if not self._frame_ancestors:
            raise NotFound(
                "There is no /embed here. Set SIGHTGLASS_FRAME_ANCESTORS to the sites that may "
                "show it in a frame."
            )
        return serve_file("index.html", request, " ".join(self._frame_ancestors))

    async def docs(self, request: Request) -> Response:
        """`GET /docs`: the interactive docs."""
        return serve_file("docs/docs.html", request)

    async def part(self, request: Request) -> Response:
        """`GET /page/<name>`: a file that a page loads."""
        return serve_file(request.path_params["name"], request)

    async def openapi(self, _: Request) -> Response:
        """`GET /openapi.json`: the description of all endpoints."""
        async with self._making:
            if self._document is None:
                self._document = await asyncio.to_thread(self._make_document)
        return Response(self._document, media_type=JSON_TYPE)

    def _make_document(self) -> bytes:
        return encode_json(make_openapi(self._described, self._needs_key))


def serve_file(name: str, request: Request, ancestors: str = "'none'") -> Response:
    """Return a file of the pages, with the headers that restrict what the browser may load.

    `ancestors` are the origins whose pages may show it in a frame.

    Raises:
        NotFound: There is no such file.
    """
    accepted = request.header("accept-encoding")
    is_compressed = bool(accepted) and choose_encoding(accepted, (GZIP, IDENTITY)) == GZIP
    content = (compress_files() if is_compressed else read_files()).get(name)
    if content is None:
        raise NotFound(f"There is no file '{excerpt(name)}' under /page.")
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    headers = {
        "content-type": media_type,  # as a header, or Starlette would add a charset
        "content-security-policy": POLICY.format(ancestors=ancestors),
        "vary": "Accept-Encoding",
    }
    if is_compressed:
        headers["content-encoding"] = GZIP
    return Response(content, headers=SECURITY_HEADERS | headers)


@cache
def read_files() -> dict[str, bytes]:
    """Read all files that can be asked for, by their path under `/page`."""
    parts = {path.relative_to(PAGE_DIR).as_posix(): path for path in PAGE_DIR.rglob("*.*")}
    parts[COLORMAPS_FILE.name] = COLORMAPS_FILE
    return {name: path.read_bytes() for name, path in parts.items()}


@cache
def compress_files() -> dict[str, bytes]:
    """The same files, compressed once."""
    return {name: gzip.compress(content) for name, content in read_files().items()}
