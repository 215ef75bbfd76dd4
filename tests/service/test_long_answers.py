"""Long answers are put together in pieces, and are the same as those written at once."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pydantic_core import to_json

from service.long_answers import (
    PIECE_BYTES,
    PIECE_VALUES,
    AnswerBuffer,
    iterate_json,
    join_pieces,
    write_in_pieces,
)

ROWS = [[float(column) for column in range(300)] for _ in range(300)]
CLASSES = [{"label": f"ä {index}", "index": index} for index in range(30_000)]


@pytest.mark.parametrize(
    "value",
    [
        {"predictions": CLASSES, "image": {"width": 1, "height": 2}, "warnings": []},
        {"explanations": [{"cam": ROWS, "shape": (300, 300), "box": None}] * 3, "empty": {}},
        [[0.5] * (PIECE_VALUES + 1), [1.5] * (PIECE_VALUES + 1)],
        [1.0] * (2 * PIECE_VALUES),
        {"mean": np.arange(90_000.0).reshape(300, 300), "none": np.empty((0, 3))},
        np.arange(3.0 * PIECE_VALUES).reshape(2, -1),
        [[], []],
        [],
        "text",
    ],
)
def test_json_in_pieces_is_the_same_and_no_piece_has_many_values(value: Any) -> None:
    pieces = [*iterate_json(value)]
    expected = to_json(value, fallback=np.ndarray.tolist)
    assert json.loads(b"".join(pieces)) == json.loads(expected)
    assert max(piece.count(b",") for piece in pieces) <= PIECE_VALUES


def test_pieces_are_joined_in_one_thread_of_their_own() -> None:
    threads: set[threading.Thread] = set()

    def iterate() -> Iterator[bytes]:
        threads.add(threading.current_thread())
        yield b"ab"
        yield bytes(2 * PIECE_BYTES + 1)

    async def run() -> list[bytes]:
        return await asyncio.gather(*(join_pieces(iterate()) for _ in range(3)))

    assert asyncio.run(run()) == [b"ab" + bytes(2 * PIECE_BYTES + 1)] * 3
    assert len(threads) == 1
    assert threading.current_thread() not in threads


def test_an_answer_that_nobody_waits_for_is_not_finished() -> None:
    started, cancelled = threading.Event(), threading.Event()
    ended: list[bytes] = []

    def write(buffer: AnswerBuffer) -> None:
        try:
            started.set()
            cancelled.wait()
            buffer.add([b"too late"])
        finally:
            ended.append(buffer.getvalue())

    async def run() -> None:
        task = asyncio.create_task(write_in_pieces(write))
        await asyncio.to_thread(started.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()
        await join_pieces([b"the same thread"])

    asyncio.run(run())
    assert ended == [b""]
