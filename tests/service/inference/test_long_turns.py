"""Work that takes long needs a turn. Without one it is stopped, and begins again with one."""

import asyncio

from service.inference.long_turns import SHORT_SECONDS, LongTurn, LongTurns


def test_turns_are_given_in_the_order_asked_and_come_back_from_the_cancelled() -> None:
    turns = LongTurns(1)
    order: list[str] = []

    async def work(name: str) -> None:
        with LongTurn(turns) as turn:
            await turn.take()
            order.append(name)

    async def test() -> None:
        with LongTurn(turns) as first:
            await first.take()
            waiting = {name: asyncio.create_task(work(name)) for name in "abc"}
            await asyncio.sleep(0)
            waiting.pop("a").cancel()
        waiting.pop("b").cancel()  # it has just got its turn
        await asyncio.gather(*waiting.values())
        assert turns.try_take()
        assert not turns.try_take()

    asyncio.run(test())
    assert order == ["c"]


def test_work_that_takes_long_is_stopped_if_no_turn_is_free() -> None:
    turns = LongTurns(1)

    async def test() -> None:
        with LongTurn(turns) as first, LongTurn(turns) as second:
            stopped = asyncio.Event()
            watch = first.watch(lambda: SHORT_SECONDS, stopped.set)
            assert watch
            other = second.watch(lambda: SHORT_SECONDS, stopped.set)
            assert other
            await stopped.wait()
            assert (watch.is_stopped, other.is_stopped) == (False, True)
            assert first.watch(lambda: SHORT_SECONDS, stopped.set) is None, "it has its turn"
        assert turns.try_take()

    asyncio.run(test())
