"""Many steps are done a few milliseconds at a time, in order."""

import asyncio
from time import perf_counter

from service.server.turns import AT_ONCE, MAX_SKIPPED, TURN_SECONDS, Turns


def test_other_work_runs_between_the_steps() -> None:
    done: list[str] = []

    def step(number: int) -> None:
        end = perf_counter() + TURN_SECONDS
        while perf_counter() < end:
            pass
        done.append(str(number))

    async def run() -> None:
        turns = Turns(lambda: False)
        for number in range(3):
            turns.add(lambda number=number: step(number))  # type: ignore[misc]
        for _ in range(3):
            await asyncio.sleep(0)
            done.append("other")

    asyncio.run(run())
    assert done == ["0", "other", "1", "other", "2", "other"]


def test_a_step_that_fails_does_not_stop_the_others() -> None:
    done: list[str] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: done.append("fault"))
        turns = Turns(lambda: False)
        turns.add(lambda: [][0])
        turns.add(lambda: done.append("other"))
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert done == ["fault", "other"]


def test_few_short_steps_need_not_wait() -> None:
    async def run() -> None:
        turns = Turns(lambda: False)
        assert [turns.may_skip() for _ in range(AT_ONCE + 2)] == [True] * AT_ONCE + [False] * 2
        urgent = [turns.may_skip(is_urgent=True) for _ in range(AT_ONCE + 1)]
        assert urgent == [True] * AT_ONCE + [False]
        await asyncio.sleep(0)
        turns.add(lambda: None)
        assert not turns.may_skip()  # it would overtake what waits
        assert turns.may_skip(is_urgent=True)

    asyncio.run(run())


def test_steps_wait_while_connections_come_but_not_for_ever() -> None:
    done: list[int] = []

    async def run() -> None:
        turns = Turns(lambda: False)
        turns.note_arrival()
        assert not turns.may_skip()
        assert turns.may_skip(is_urgent=True)
        await asyncio.sleep(0)
        assert turns.may_skip()
        turns.add(lambda: done.append(1))
        for _ in range(MAX_SKIPPED):
            turns.note_arrival()
            await asyncio.sleep(0)
            assert not done
        turns.note_arrival()
        await asyncio.sleep(0)
        assert done == [1]

    asyncio.run(run())
