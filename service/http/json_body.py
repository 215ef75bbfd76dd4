"""JSON bodies: parsed in a time and a memory that do not grow with what a client sent.

A short body is parsed as it is. In a long one only encoded pictures and lists of numbers may be
long. They are cut out first, and stay in the body's memory until they are decoded. The rest has a
limit. This module knows neither pictures nor parameters.
"""

import json
import sys
from secrets import token_hex
from typing import Any

from service.errors import BadRequest, PayloadTooLarge, excerpt
from service.http.body import Body, Part

MAX_REST_BYTES = 65_536  # of a body without its long texts and lists of numbers
MAX_TEXTS = 4096  # in a body that is longer
MIN_CUT_BYTES = 512  # of a text or a list of numbers that is cut out
MAX_TEXT_BYTES = 65_536  # of a parameter; only pictures may be longer
STEP_BYTES = 1 << 20  # searched at a time: other threads can run in between
QUOTE = b'"'
BYTE_ORDER_MARK = "\ufeff"
MAX_BACKSLASHES = 64  # in a row


class Cut(Part):
    """A part of the body that was cut out."""

    def __repr__(self) -> str:
        """Return what an error sentence shows."""
        return excerpt(bytes(self.view[:MAX_BACKSLASHES]).decode(errors="replace")) + "…"


class LongText(Cut):
    """A text without its quotes, as it was sent, with its escapes."""


class LongList(Cut):
    """A list that holds no texts and no objects, such as numbers, as it was sent."""


def parse_json_object(
    body: Body, example: str, *, length: int | None = None, has_numbers: bool = False
) -> dict[str, Any]:
    """Parse a JSON object in which no name is given twice: the first `length` bytes of the body.

    Texts of more than `MAX_TEXT_BYTES` bytes come as `LongText`. With `has_numbers`, long lists of
    numbers come as `LongList`.

    Raises:
        BadRequest: The document is something else. The sentence shows the `example`.
        PayloadTooLarge: It has too much besides pictures and numbers.
    """
    cuts: dict[str, Cut] = {}
    end = len(body) if length is None else min(length, len(body))
    is_long = end > MAX_REST_BYTES
    document = _Scissors(body, end, has_numbers, cuts).cut() if is_long else body[:end]
    try:
        loaded = DECODER.decode(document.decode().removeprefix(BYTE_ORDER_MARK))
        if cuts:
            loaded = _restore(loaded, cuts)
    except json.JSONDecodeError as exc:  # after cutting, its position would mislead
        reason = exc.msg if cuts else str(exc)
        raise BadRequest(f"The body is not valid JSON: {reason}.") from None
    except (ValueError, RecursionError) as exc:
        raise BadRequest(f"The body is not valid JSON: {_describe(exc)}.") from None
    if not isinstance(loaded, dict):
        raise BadRequest(f"The body must be a JSON object like {example}.")
    return loaded


class _Scissors:
    """Cuts the long parts out of a document, and counts the rest."""

    def __init__(self, document: Body, end: int, has_numbers: bool, cuts: dict[str, Cut]) -> None:
        self._document = document
        self._end = end
        self._has_numbers = has_numbers
        self._cuts = cuts
        self._token = token_hex(8)  # of texts that stand for the parts; a client can't know it
        self._rest: list[bytes] = []
        self._size = self._texts = 0

    def cut(self) -> bytes:
        """Return the rest of the document, with a short text in the place of each part."""
        position = 0
        while (begin := self._find(QUOTE, position, self._end)) >= 0:
            self._keep_between(position, begin)
            end = self._find_end_of_text(begin + 1)
            if end - begin > MIN_CUT_BYTES:
                self._put(LongText(self._document, begin + 1, end))
            else:
                self._keep(begin, end + 1)
            position = end + 1
        self._keep_between(position, self._end)
        return b"".join(self._rest)

    def _keep_between(self, begin: int, end: int) -> None:
        """Keep what is between two texts, without its numbers."""
        if self._has_numbers and end - begin > MIN_CUT_BYTES:
            first = self._find(b"[", begin, end)
            stop = self._find(b"}", first, end) if first >= 0 else -1
            stop = end if stop < 0 else stop
            last = self._document.rfind(b"]", max(first, stop - STEP_BYTES), stop) + 1
            if first >= 0 and last - first > MIN_CUT_BYTES:
                self._keep(begin, first)
                self._put(LongList(self._document, first, last))
                begin = last
        self._keep(begin, end)

    def _keep(self, begin: int, end: int) -> None:
        self._size += end - begin
        self._check()
        self._rest.append(self._document[begin:end])

    def _put(self, part: Cut) -> None:
        name = f"{self._token}{len(self._cuts)}"
        self._cuts[name] = part
        self._rest.append(f'"{name}"'.encode())
        self._check()

    def _check(self) -> None:
        if self._size > MAX_REST_BYTES or self._texts > MAX_TEXTS:
            besides = "pictures and numbers" if self._has_numbers else "pictures"
            raise PayloadTooLarge(
                f"The JSON has more than {MAX_REST_BYTES} bytes or {MAX_TEXTS} texts besides "
                f"{besides}, the maximum here. Send less."
            )

    def _find_end_of_text(self, begin: int) -> int:
        """Return the position of the closing quote."""
        end = begin - 1
        while (end := self._find(QUOTE, end + 1, self._end)) >= 0:
            self._texts += 1
            self._check()
            before = self._document[max(begin, end - MAX_BACKSLASHES) : end]
            backslashes = len(before) - len(before.rstrip(b"\\"))
            if backslashes % 2 == 0 and backslashes < MAX_BACKSLASHES:
                return end
        raise BadRequest("The body is not valid JSON: a text has no closing quote.")

    def _find(self, wanted: bytes, begin: int, end: int) -> int:
        for start in range(begin, end, STEP_BYTES):
            found = self._document.find(wanted, start, min(start + STEP_BYTES, end))
            if found >= 0:
                return found
        return -1


def _restore(value: Any, cuts: dict[str, Cut]) -> Any:
    """Return the value with the parts that were cut out, the shorter texts as `str`."""
    if isinstance(value, str):
        part = cuts.get(value)
        if isinstance(part, LongText) and len(part) <= MAX_TEXT_BYTES:
            return DECODER.decode(f'"{bytes(part.view).decode()}"')
        return value if part is None else part
    if isinstance(value, list):
        return [_restore(item, cuts) for item in value]
    if isinstance(value, dict):
        if not cuts.keys().isdisjoint(value):
            raise BadRequest(f"A name in the JSON is longer than {MIN_CUT_BYTES} bytes.")
        return {name: _restore(item, cuts) for name, item in value.items()}
    return value


def _describe(exc: Exception) -> str:
    """Return what is wrong; Python's own words would speak of Python."""
    if isinstance(exc, UnicodeDecodeError):
        return "it must be UTF-8"
    if isinstance(exc, RecursionError):
        return "too many lists or objects are in each other"
    return f"a number has more than {sys.get_int_max_str_digits()} digits"


def _make_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        times = sum(name == twice for name, _ in pairs)
        raise BadRequest(f"'{excerpt(twice)}' was given {times} times: give it once.")
    return made


# Control characters are accepted: base64 with line breaks is often pasted into a JSON text.
DECODER = json.JSONDecoder(object_pairs_hook=_make_object, strict=False)
