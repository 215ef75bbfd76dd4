"""Pictures as base64 text: line breaks, missing padding, the URL alphabet and `data:` prefixes.

Long texts are decoded in pieces, because no other thread runs meanwhile. This module knows no
picture formats.
"""

import binascii
import json
import re
from collections.abc import Iterator
from contextlib import suppress

from service.errors import ApiError, BadRequest, PayloadTooLarge, excerpt

PIECE_BYTES = 1 << 18
PREFIX_BYTES = 256  # within which a `data:` prefix must end
STANDARD = bytes.maketrans(b"-_", b"+/")
LINE_BREAKS = b"\r\n"  # not spaces: one may have been a plus sign
FOREIGN = re.compile(rb"[^A-Za-z0-9+/=]")
ESCAPE_BEGUN = re.compile(rb"\\(?:u[0-9a-fA-F]{0,3})?\Z")


def decode_image(text: bytes | memoryview, max_bytes: int, *, is_json: bool) -> bytes | ApiError:
    """Return the bytes of an image, or the error, which concerns this image alone.

    `is_json` is true for text that may have the escapes of JSON.
    """
    if 0 < len(text) <= min(PIECE_BYTES, max_bytes):
        with suppress(binascii.Error):  # nearly always: the plain form
            return binascii.a2b_base64(text, strict_mode=True)
    try:
        decoded = _decode(text, max_bytes, is_json)
    except ApiError as exc:
        return exc.with_traceback(None)
    return decoded or BadRequest("An image in JSON must be a non-empty base64 string.")


def describe_image_limit(max_bytes: int) -> str:
    """Return the error sentence for an image that is too long."""
    return f"The image has more than {max_bytes} bytes, the maximum here. Send a smaller image."


def _decode(text: bytes | memoryview, max_bytes: int, is_json: bool) -> bytes:
    decoded: list[bytes] = []
    size, rest, is_padded = 0, b"", False
    for piece in _clean(_skip_prefix(text), is_json):
        if piece and is_padded:
            raise BadRequest("The image is not valid base64: there is more text after its '='.")
        piece = rest + piece
        whole = len(piece) - len(piece) % 4
        decoded.append(_decode_whole(piece[:whole]))
        size += len(decoded[-1])
        if size > max_bytes:
            raise PayloadTooLarge(describe_image_limit(max_bytes))
        is_padded = piece[:whole].endswith(b"=")
        rest = piece[whole:]
    if last := rest.rstrip(b"="):
        decoded.append(_decode_whole(last + b"=" * (4 - len(last))))
    elif rest:
        raise BadRequest("The image is not valid base64: it has too many '=' at its end.")
    return b"".join(decoded)


def _skip_prefix(text: bytes | memoryview) -> memoryview:
    """Return the text after `data:image/png;base64,` or a similar prefix.

    Raises:
        BadRequest: There is another prefix.
    """
    head = bytes(text[:PREFIX_BYTES])
    if head[:5].lower() != b"data:":
        return memoryview(text)
    prefix, comma, _ = head.partition(b",")
    if not comma or not prefix.lower().rstrip().endswith(b";base64"):
        shown = excerpt(prefix.decode(errors="replace"))
        raise BadRequest(
            f"A prefix of an image must be like 'data:image/png;base64,', got '{shown}'."
        )
    return memoryview(text)[len(prefix) + 1 :]


def _clean(text: memoryview, is_json: bool) -> Iterator[bytes]:
    """Yield the text in the standard alphabet, without line breaks and escapes."""
    rest = b""
    for start in range(0, len(text), PIECE_BYTES):
        piece = rest + bytes(text[start : start + PIECE_BYTES])
        rest = b""
        if is_json and b"\\" in piece:
            if begun := ESCAPE_BEGUN.search(piece, max(0, len(piece) - 6)):
                piece, rest = piece[: begun.start()], begun[0]
            piece = _unescape(piece)
        is_usual = not any(byte in piece for byte in (b"-", b"_", b"\r", b"\n"))
        yield piece if is_usual else piece.translate(STANDARD, LINE_BREAKS)
    if rest:
        yield rest


def _unescape(text: bytes) -> bytes:
    try:
        unescaped: str = json.loads(b'"%b"' % text, strict=False)
    except ValueError:
        return text  # its backslash is then reported as a character that is no base64
    return unescaped.encode(errors="replace")


def _decode_whole(text: bytes) -> bytes:
    """Decode groups of four characters.

    Raises:
        BadRequest: This is not base64.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        foreign = FOREIGN.search(text)
    if foreign is None:
        raise BadRequest("The image is not valid base64: it is incomplete, or '=' is within it.")
    begin = foreign.start()
    shown = text[begin : begin + 4].decode(errors="replace")[0]
    raise BadRequest(
        f"The image is not valid base64: it has the character {shown!r}. Encode the bytes of the "
        "file."
    )
