"""The head of a request: its request line and headers, and which of them are valid.

This module knows the rules of HTTP/1.1. It knows neither connections nor what a request asks for.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial

import httptools

from service.errors import ApiError, BadRequest, excerpt

MAX_HEAD_BYTES = 65_536  # of headers; of trailers; of the framing of chunks, beyond the body's size
HEAD_LIMIT = f"More than {MAX_HEAD_BYTES} bytes of headers were sent: send fewer."
MAX_FIELDS = 128  # lines of headers and trailers
FIELD_LIMIT = f"More than {MAX_FIELDS} lines of headers or trailers were sent: send fewer."
MAX_LENGTH_DIGITS = 20  # of a Content-Length; the parser's numbers have 64 bits
HOST = re.compile(rb"([\w.~%!$&'()*+,;=-]*|\[[\w:.%-]+\])(:[0-9]*)?[ \t]*")
VERSIONS = ("1.0", "1.1")

Field = tuple[bytes, bytes]  # name and value


class Refused(Exception):
    """What comes is not parsed any further; the message is one sentence."""


class Head:
    """What is known of the head of one request."""

    __slots__ = ("fields", "hosts", "is_chunked", "is_open")

    def __init__(self) -> None:
        self.fields = 0  # trailers count, too
        self.hosts = 0
        self.is_chunked = False
        self.is_open = True

    def add_field(self, name: bytes, value: bytes) -> None:
        """Count a header whose name is in lower case, and check it.

        Raises:
            Refused: It is not valid, or one too many.
        """
        self.count_field()
        if name == b"host":
            self.hosts += 1
            if not HOST.fullmatch(value):
                host = excerpt(value.decode("latin-1"))
                raise Refused(f"The Host '{host}' is not valid: send a name and a port.")
        elif name == b"transfer-encoding":
            if self.is_chunked or value.strip().lower() != b"chunked":
                raise Refused("The only Transfer-Encoding here is 'chunked', given once.")
            self.is_chunked = True
        elif name == b"content-length" and len(value) > MAX_LENGTH_DIGITS:
            raise Refused(f"A Content-Length has at most {MAX_LENGTH_DIGITS} digits.")

    def count_field(self) -> None:
        """Count a header or a trailer.

        Raises:
            Refused: It is one too many.
        """
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise Refused(FIELD_LIMIT)

    def find_fault(
        self, version: str, url: bytes, headers: Sequence[Field]
    ) -> Callable[[], ApiError] | None:
        """Return what makes the error for what is wrong with the whole head; None if nothing."""
        if version not in VERSIONS:
            return partial(BadRequest, f"HTTP/{version} is not spoken here: use HTTP/1.1.")
        if self.is_chunked and version == "1.0":
            return partial(BadRequest, "HTTP/1.0 has no Transfer-Encoding: use HTTP/1.1.")
        if self.hosts != 1 and (self.hosts or version == "1.1"):
            return partial(BadRequest, f"There must be one Host header, got {self.hosts}.")
        size = len(url) + sum(len(name) + len(value) for name, value in headers)
        if size > MAX_HEAD_BYTES:
            return partial(BadRequest, HEAD_LIMIT)
        return None


def complete_target(url: bytes) -> bytes:
    """Return an absolute URL; if it lacks a path, the path alone (RFC 9112, section 3.2.1)."""
    target = httptools.parse_url(url)
    if target.path:
        return url
    return b"/" if target.query is None else b"/?" + target.query


def write_without_upgrade(
    method: bytes, url: bytes, version: str, headers: Sequence[Field]
) -> bytes:
    """Return the head of a request as it would be without its offer to upgrade."""
    lines = [b"%b %b HTTP/%b" % (method, url, version.encode())]
    lines += [b"%b: %b" % header for header in headers if header[0] != b"upgrade"]
    return b"\r\n".join([*lines, b"", b""])
