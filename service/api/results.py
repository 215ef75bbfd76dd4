"""Writes the results of images as JSON. Long ones are written in a thread."""

from itertools import chain
from math import prod
from typing import Any

from service.api.operations import JsonObject
from service.http.response import encode_json
from service.long_answers import PIECE_VALUES, iterate_json, join_pieces
from service.parameters import ExplainOptions, PredictOptions
from service.repository.model import Model
from service.schemas import AnyResult

VALUES_PER_CLASS = 10  # a class in JSON takes as long as so many numbers
INLINE_BYTES = 1 << 20  # of results that are joined without a thread


def make_batch_head(model: Model) -> bytes:
    """Return what comes before the results of several images."""
    return b'%b,"results":' % encode_json({"model": model.name, "version": model.version})[:-1]


async def join_results(head: bytes, results: list[bytes]) -> bytes:
    """Return `head`, then the results in JSON as a list. If they are long, a thread joins them."""
    if sum(map(len, results)) <= INLINE_BYTES:
        return b"%b[%b]}" % (head, b",".join(results))
    separated = ((b"," if number else b"[") + result for number, result in enumerate(results))
    return await join_pieces(chain((head,), separated, (b"]}",)))


async def encode_result(result: AnyResult | JsonObject, options: PredictOptions) -> bytes:
    """Encode a result as JSON. If it is long, a thread does it in pieces."""
    parts: Any = result
    values = VALUES_PER_CLASS * len(parts.get("predictions", ()))
    for explanation in parts.get("explanations", ()):
        values += prod(explanation["shape"])
    has_pictures = options.mask or (isinstance(options, ExplainOptions) and bool(options.view))
    if values <= PIECE_VALUES and not has_pictures:
        return encode_json(result)
    return await join_pieces(iterate_json(result))
