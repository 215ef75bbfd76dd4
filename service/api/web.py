"""What a browser shows: the page, the interactive docs and their parts. All of it is local."""

import mimetypes
from functools import cache
from pathlib import Path

import bentoml

from service.api.endpoints import answer_json
from service.api.openapi import make_openapi
from service.errors import NotFound
from service.http.request import Request, Response
from service.imaging.heatmap import COLORMAPS_FILE

PAGE_DIR = Path(__file__).parents[1] / "page"
EXAMPLES_DIR = Path(__file__).parents[2] / "docs" / "examples"
SWAGGER_DIR = Path(bentoml.__file__).parent / "_internal" / "server" / "static_content"
SWAGGER_FILES = ("swagger-ui.css", "swagger-ui-bundle.js")  # BentoML ships them
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{inline}; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
INLINE_STYLED = "docs.html"  # Swagger's parts set styles of their own
SECURITY_HEADERS = {
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


class WebPages:
    """Each call is a function of a request."""

    def __init__(self, needs_key: bool) -> None:
        self._needs_key = needs_key

    async def index(self, _: Request) -> Response:
        """`GET /`: the page."""
        return serve_file("index.html")

    async def docs(self, _: Request) -> Response:
        """`GET /docs`: the interactive docs."""
        return serve_file("docs.html")

    async def part(self, _: Request, name: str) -> Response:
        """`GET /page/<name>`: what the pages are made of."""
        return serve_file(name)

    async def openapi(self, _: Request) -> Response:
        """`GET /openapi.json`: the description of all this."""
        return answer_json(make_openapi(self._needs_key))


def serve_file(name: str) -> Response:
    """A file of the pages, with the headers that fence a browser in.

    Raises:
        NotFound: there is no such file.
    """
    content = read_files().get(name)
    if content is None:
        raise NotFound(f"There is no part of a page called '{name}'.")
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    inline = " 'unsafe-inline'" if name == INLINE_STYLED else ""
    policy = {"content-security-policy": POLICY.format(inline=inline)}
    return Response(content, media_type, headers=SECURITY_HEADERS | policy)


@cache
def read_files() -> dict[str, bytes]:
    """All files by name; nothing else can be asked for."""
    paths = [
        *PAGE_DIR.iterdir(),
        *EXAMPLES_DIR.glob("*"),
        COLORMAPS_FILE,
        *(SWAGGER_DIR / name for name in SWAGGER_FILES),
    ]
    return {path.name: path.read_bytes() for path in paths}
