"""A request with many images leaves places to others."""

import asyncio

from service.inference.room import take_turns


def test_calls_take_turns() -> None:
    running, most = 0, 0
    waits: list[tuple[float, float]] = []

    async def call(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    async def test() -> list[int]:
        return await asyncio.gather(*map(take_turns(call, 3, waits.append), range(10)))

    assert asyncio.run(test()) == list(range(10))
    assert most == 3
    assert len(waits) == 7
