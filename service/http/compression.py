"""Compression with gzip and deflate: request bodies within a limit, responses on request.

This module knows bytes and headers. It does not know what they mean.
"""

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from starlette.responses import Response

from service.errors import (
    BadRequest,
    NotAcceptable,
    PayloadTooLarge,
    UnsupportedMediaType,
    excerpt,
)
from service.http.body import Body, BodyBuffer, release
from service.http.negotiation import choose_media_type
from service.http.request import describe_byte_limit

GZIP, IDENTITY = "gzip", "identity"
WINDOW_BITS = {GZIP: 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
INLINE_BYTES = 1 << 16  # to which a short body is decompressed without a thread
SHORT_BYTES = 4096  # of such a body: codes without data take time, too, 0.07 s per million bytes
CHUNK_BYTES = 1 << 18  # decompressed at a time, so that a small body cannot fill the memory
MIN_COMPRESSED_BYTES = 1024  # a shorter response is sent as it is
FASTEST = 1


async def decompress_body(
    body: Body,
    encoding: str,
    limit: int,
    reserve: Callable[[int], None],
    take_time: Callable[[], Awaitable[None]],
) -> Body:
    """Undo the `Content-Encoding` of a body. Call `reserve` for each piece before it is kept.

    `take_time` waits for time on the event loop, before a short body is decompressed there.

    Raises:
        UnsupportedMediaType: The encoding is not supported.
        BadRequest: The body is truncated or corrupt.
        PayloadTooLarge: The decompressed body has more than `limit` bytes.
    """
    name = encoding.strip().lower()
    if name == IDENTITY or not body:
        return body
    if name not in WINDOW_BITS:
        supported = ", ".join([*WINDOW_BITS, IDENTITY])
        raise UnsupportedMediaType(
            f"Content-Encoding must be one of {supported}, got '{excerpt(encoding)}'."
        )
    decompressor = zlib.decompressobj(WINDOW_BITS[name])
    buffer = BodyBuffer(limit)
    is_short = len(body) <= SHORT_BYTES
    for start in range(0, len(body), CHUNK_BYTES):
        if decompressor.eof:
            raise BadRequest(
                f"There are more bytes after the end of the {name} body: send it alone."
            )
        rest, is_done = body[start : start + CHUNK_BYTES], False
        release(body, start, start + len(rest))
        while not is_done:
            try:
                if is_short and buffer.size <= INLINE_BYTES:
                    await take_time()
                    piece = decompressor.decompress(rest, INLINE_BYTES)
                else:
                    piece = await asyncio.to_thread(decompressor.decompress, rest, CHUNK_BYTES)
            except zlib.error:
                raise BadRequest(f"The body is not valid {name}: compress it again.") from None
            if buffer.size + len(piece) > limit:
                raise PayloadTooLarge(describe_byte_limit(limit))
            reserve(len(piece))
            buffer.add(piece)
            rest = decompressor.unconsumed_tail
            is_done = not rest and len(piece) < INLINE_BYTES
    if not decompressor.eof or decompressor.unused_data:
        raise BadRequest(
            f"The {name} body is truncated or has extra bytes: send it whole and alone."
        )
    return await buffer.finish()


async def compress_response(response: Response, accepted: str) -> None:
    """Compress a response of some length if the client's `Accept-Encoding` asks for it."""
    response.headers["vary"] = "Accept-Encoding"
    if not accepted or len(response.body) < MIN_COMPRESSED_BYTES:
        return
    name = choose_encoding(accepted, [*WINDOW_BITS, IDENTITY])
    if name != IDENTITY:
        response.body = await asyncio.to_thread(
            zlib.compress, response.body, FASTEST, WINDOW_BITS[name]
        )
        response.headers["content-encoding"] = name
        response.headers["content-length"] = str(len(response.body))


def choose_encoding(accepted: str, offers: Sequence[str]) -> str:
    """Return the encoding that `Accept-Encoding` prefers, or `IDENTITY` if it allows none."""
    with suppress(NotAcceptable, BadRequest):  # every client can read the uncompressed response
        return choose_media_type(accepted, offers)
    return IDENTITY
