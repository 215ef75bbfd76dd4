"""Multipart bodies: their parts one after the other, within limits.

This module does not know what the parts mean.
"""

from collections.abc import Iterator

from multipart import MultipartError, MultipartSegment, PushMultipartParser

from service.errors import BadRequest, excerpt
from service.http.body import Body, release

MAX_PARTS = 256
MAX_HEADERS = 16  # of one part
MAX_HEADER_BYTES = 1024  # of one header: what reads it takes the square of its length
MAX_BOUNDARY = 70  # characters (RFC 2046, 5.1.1)
PIECE_BYTES = 1 << 18  # parsed at a time: other threads can run in between


def read_parts(
    body: Body, boundary: str, max_bytes: int
) -> Iterator[tuple[MultipartSegment, bytes | None]]:
    """Yield the head and the content of each part; None for content of more than `max_bytes`.

    Raises:
        BadRequest: The body is malformed, or it has too many parts.
    """
    if not 1 <= len(boundary) <= MAX_BOUNDARY:
        raise BadRequest(
            f"The Content-Type of a multipart body must name its boundary, with at most "
            f"{MAX_BOUNDARY} characters, got '{excerpt(boundary)}'."
        )
    parser = PushMultipartParser(
        boundary,
        max_segment_count=MAX_PARTS,
        max_header_count=MAX_HEADERS,
        max_header_size=MAX_HEADER_BYTES,
    )
    segment: MultipartSegment | None = None
    chunks: list[bytes] = []
    size = 0
    try:
        with parser:
            for start in range(0, len(body), PIECE_BYTES):
                if parser.closed:
                    break
                piece = body[start : start + PIECE_BYTES]
                release(body, start, start + len(piece))
                for event in parser.parse(piece):
                    if isinstance(event, MultipartSegment):
                        segment, chunks, size = event, [], 0
                    elif event:
                        size += len(event)
                        if size <= max_bytes:
                            chunks.append(bytes(event))
                        else:
                            chunks.clear()
                    else:
                        assert segment
                        content = chunks[0] if len(chunks) == 1 else b"".join(chunks)
                        chunks = []
                        yield segment, content if size <= max_bytes else None
                        del content
    except MultipartError as exc:
        if isinstance(exc.args[-1], UnicodeDecodeError):
            raise BadRequest("The head of a part of the form must be UTF-8 text.") from None
        raise BadRequest(f"The multipart body is malformed: {excerpt(str(exc))}.") from None
