"""Bodies packed with gzip or deflate: unpacked within a limit, packed where the client asks for it.

Knows bytes and headers, not what they are for.
"""

import asyncio
import zlib
from collections.abc import Callable
from contextlib import suppress

from service.errors import BadRequest, NotAcceptable, PayloadTooLarge, UnsupportedMediaType
from service.http.negotiation import choose_media_type
from service.http.request import Response, describe_byte_limit

WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
PLAIN = "identity"
CHUNK_BYTES = 1 << 18  # unpacked at a time, so that a small body can't fill the memory
WORTH_PACKING_BYTES = 1024
FASTEST = 1


async def decompress_body(
    body: bytes, encoding: str, limit: int, grow: Callable[[int], None]
) -> bytes:
    """The body as it was before its `Content-Encoding`; `grow` is told of each piece first.

    Raises:
        UnsupportedMediaType: it is packed in a way that is not known here.
        BadRequest: it is truncated or corrupt.
        PayloadTooLarge: it unpacks to more than `limit` bytes.
    """
    name = encoding.strip().lower() or PLAIN
    if name == PLAIN:
        return body
    if name not in WINDOW_BITS:
        known = ", ".join(WINDOW_BITS)
        raise UnsupportedMediaType(
            f"The Content-Encoding '{encoding}' is not known here: use {known} or none."
        )
    unpacker = zlib.decompressobj(WINDOW_BITS[name])
    pieces: list[bytes] = []
    size = 0
    for start in range(0, len(body), CHUNK_BYTES):
        if unpacker.eof:
            raise BadRequest(f"There are bytes after the end of the {name} body: send it alone.")
        rest, is_spent = body[start : start + CHUNK_BYTES], False
        while not is_spent:
            try:
                piece = await asyncio.to_thread(unpacker.decompress, rest, CHUNK_BYTES)
            except zlib.error:
                raise BadRequest(f"The body is no valid {name}: pack it anew.") from None
            size += len(piece)
            if size > limit:
                raise PayloadTooLarge(describe_byte_limit(limit))
            grow(len(piece))
            pieces.append(piece)
            rest = unpacker.unconsumed_tail
            is_spent = not rest and len(piece) < CHUNK_BYTES
    if not unpacker.eof or unpacker.unused_data:
        raise BadRequest(f"The {name} body does not end where it should: send it whole and alone.")
    return b"".join(pieces)


async def compress_response(response: Response, accepted: str) -> None:
    """Pack the response if its client's `Accept-Encoding` asks for it and there is enough of it."""
    response.headers["vary"] = "Accept-Encoding"
    if not accepted or len(response.body) < WORTH_PACKING_BYTES:
        return
    name = PLAIN
    with suppress(NotAcceptable):  # what is not packed may be sent to anybody
        name = choose_media_type(accepted, [*WINDOW_BITS, PLAIN])
    if name != PLAIN:
        response.body = await asyncio.to_thread(
            zlib.compress, response.body, FASTEST, WINDOW_BITS[name]
        )
        response.headers["content-encoding"] = name
