"""Tasks that take long share the turns of the event loop."""

import asyncio
from time import perf_counter

from service.inference.loop_time import MAX_TASKS, TURN_SECONDS, LoopTime


def work() -> None:
    end = perf_counter() + TURN_SECONDS
    while perf_counter() < end:
        pass


async def count_turns(turns: list[int], stop: asyncio.Event) -> None:
    while not stop.is_set():
        turns[0] += 1
        await asyncio.sleep(0)


def test_tasks_that_take_long_do_not_run_in_one_turn() -> None:
    seen: list[tuple[int, int]] = []  # task, turn
    turns, count = [0], 5

    async def run() -> None:
        time, stop = LoopTime(), asyncio.Event()

        async def take(number: int) -> None:
            await time.take()
            seen.append((number, turns[0]))
            work()

        counting = asyncio.create_task(count_turns(turns, stop))
        await asyncio.gather(*map(take, range(count)))
        stop.set()
        await counting

    asyncio.run(run())
    assert [number for number, _ in seen] == [*range(count)]
    assert len({turn for _, turn in seen}) == count  # each has a turn of its own


def test_more_tasks_are_woken_in_a_turn_if_they_take_little() -> None:
    async def run() -> int:
        time, turns, stop = LoopTime(), [0], asyncio.Event()

        async def take(is_long: bool) -> None:
            await time.take()
            if is_long:
                work()

        counting = asyncio.create_task(count_turns(turns, stop))
        await asyncio.gather(*(take(number == 0) for number in range(8 * MAX_TASKS)))
        stop.set()
        await counting
        return turns[0]

    assert asyncio.run(run()) < 4 * MAX_TASKS


def test_tasks_that_take_little_do_not_wait() -> None:
    async def run() -> int:
        time, done = LoopTime(), 0

        async def take() -> None:
            nonlocal done
            await time.take()
            done += 1

        tasks = [asyncio.create_task(take()) for _ in range(50)]
        await asyncio.sleep(0)
        found = done
        await asyncio.gather(*tasks)
        return found

    assert asyncio.run(run()) == 50


def test_a_task_that_is_cancelled_while_it_waits_keeps_nobody_back() -> None:
    async def run() -> None:
        time = LoopTime()

        async def take() -> None:
            await time.take()
            work()

        tasks = [asyncio.create_task(take()) for _ in range(6)]
        await asyncio.sleep(0)
        for task in tasks[1:-1]:
            task.cancel()
        await asyncio.wait_for(tasks[-1], 10)

    asyncio.run(run())
