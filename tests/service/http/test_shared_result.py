"""Work is done once for all callers of the same time, and never begins before a call."""

import asyncio

import pytest

from service.http.shared_result import SharedResult, SharedResults


def test_who_asks_together_gets_one_result_that_was_begun_afterwards() -> None:
    begun: list[asyncio.Event] = []

    async def make() -> int:
        begun.append(asyncio.Event())
        number = len(begun)
        await begun[-1].wait()
        return number

    async def test() -> None:
        shared = SharedResult(make)
        first = asyncio.create_task(shared.get())
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(shared.get()) for _ in range(100)]
        await asyncio.sleep(0.01)
        assert len(begun) == 1, "the others came later, so they wait for the next result"
        others.pop().cancel()
        begun[0].set()
        assert await first == 1
        await asyncio.sleep(0.01)
        begun[1].set()
        assert await asyncio.gather(*others) == [2] * 99
        assert len(begun) == 2

    asyncio.run(test())


def test_an_error_reaches_all_who_asked_and_nobody_later() -> None:
    faults = [ValueError("broken")]

    async def make() -> str:
        await asyncio.sleep(0)
        if faults:
            raise faults.pop()
        return "whole"

    async def test() -> None:
        shared = SharedResult(make)
        found = await asyncio.gather(shared.get(), shared.get(), return_exceptions=True)
        assert [str(fault) for fault in found] == ["broken"] * 2
        assert await shared.get() == "whole"

    asyncio.run(test())


def test_each_key_has_a_result_that_is_kept_only_while_somebody_waits() -> None:
    made: list[str] = []

    async def make(key: str) -> str:
        await asyncio.sleep(0)
        made.append(key)
        if not key:
            raise ValueError("no key")
        return key.upper()

    async def test() -> None:
        shared = SharedResults(make)
        found = await asyncio.gather(*map(shared.get, ["a", "b", "a"]))
        assert found == ["A", "B", "A"]
        assert sorted(made) == ["a", "b"]
        for _ in range(2):
            with pytest.raises(ValueError, match="no key"):
                await shared.get("")
        assert await shared.get("a") == "A"
        assert len(made) == 5
        assert not shared._results

    asyncio.run(test())
