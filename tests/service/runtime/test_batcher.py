"""One queue of rows before one model."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.runtime.batcher import Answer, Batcher, Outputs, Row
from tests.server import wait_until as keep_waiting_until

POISON = 255


class Model:
    """Answers each row with its own first pixel; can be held, and fails on a poisoned row."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.targets: list[list[list[int]]] = []
        self.free = threading.Event()
        self.free.set()

    def run(self, image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        self.free.wait(10)
        own = image[:, 0, 0, 0]  # (N,)
        self.batches.append(own.tolist())
        self.targets.append(target.tolist())
        if POISON in own:
            raise RuntimeError("poisoned")
        scores = own.astype(np.float32)[:, np.newaxis]  # (N, 1)
        cam = target.astype(np.float32)[..., np.newaxis, np.newaxis]  # (N, T, 1, 1)
        return Outputs(scores, scores, cam)


def make_row(value: int, targets: Sequence[int] = ()) -> Row:
    return Row(np.full((1, 1, 1), value, np.uint8), targets)


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def run(test: Callable[[Model, Batcher], Awaitable[None]], delay: float = 0) -> Model:
    """Run `test` on an event loop of its own with a batcher of at most four rows."""
    model = Model()

    async def body() -> None:
        await test(model, Batcher(model.run, 4, delay, lambda _: None))

    asyncio.run(body())
    return model


def test_rows_that_came_while_the_model_ran_share_the_next_batch_in_order() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        answers = [batcher.submit(make_row(value)) for value in range(4)]
        model.free.set()
        assert [answer.logits[0] for answer in await asyncio.gather(*answers)] == [0, 1, 2, 3]

    assert run(test).batches == [[0], [1, 2, 3]]


def test_a_batch_is_never_larger_than_allowed_and_nothing_is_lost() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        answers = [batcher.submit(make_row(value)) for value in range(50)]
        assert list(range(50)) == [answer.logits[0] for answer in await asyncio.gather(*answers)]

    model = run(test)
    assert sorted(row for batch in model.batches for row in batch) == list(range(50))
    assert max(map(len, model.batches)) == 4


def test_each_row_gets_its_own_maps_though_the_batch_ran_with_the_most_targets() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        wishes: list[list[int]] = [[], [], [5], [6, 7, 8]]
        answers = [batcher.submit(make_row(9, targets)) for targets in wishes]
        model.free.set()
        found = [answer.cam[:, 0, 0].tolist() for answer in await asyncio.gather(*answers)]
        assert found == wishes

    assert run(test).targets[1] == [[-1, -1, -1], [5, -1, -1], [6, 7, 8]]


def test_predictions_alone_run_without_targets() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        await batcher.submit(make_row(1))

    assert run(test).targets == [[[]]]


def test_a_row_nobody_waits_for_never_runs() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        first = batcher.submit(make_row(0))
        staged = [batcher.submit(make_row(value)) for value in (1, 2, 3, 4)]
        waiting = [batcher.submit(make_row(value)) for value in (5, 6)]
        staged[1].cancel()
        waiting[0].cancel()
        model.free.set()
        await asyncio.gather(first, *staged, *waiting, return_exceptions=True)

    assert run(test).batches == [[0], [1, 3, 4], [6]]


def test_of_a_batch_that_fails_only_the_culprit_does() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        values = (0, 1, 2, POISON, 4)
        answers = [batcher.submit(make_row(value)) for value in values]
        model.free.set()
        found = await asyncio.gather(*answers, return_exceptions=True)
        assert [isinstance(answer, Answer) for answer in found] == [v != POISON for v in values]
        with pytest.raises(RuntimeError, match="poisoned"):
            await answers[3]

    run(test)


def test_after_a_failure_the_next_batch_runs() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        with pytest.raises(RuntimeError):
            await batcher.submit(make_row(POISON))
        assert (await batcher.submit(make_row(3))).logits[0] == 3

    run(test)


def test_with_a_delay_a_lone_row_waits_for_company_but_a_full_batch_does_not() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        answers = [batcher.submit(make_row(0))]
        await asyncio.sleep(0.01)
        answers += [batcher.submit(make_row(value)) for value in (1, 2, 3)]
        async with asyncio.timeout(10):
            await asyncio.gather(*answers)

    assert run(test, delay=60).batches == [[0, 1, 2, 3]]


def test_after_the_delay_a_lone_row_runs_alone() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        await batcher.submit(make_row(0))

    assert run(test, delay=0.1).batches == [[0]]


def test_the_queue_tells_its_length() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        answers = [batcher.submit(make_row(value)) for value in range(4)]
        assert len(batcher) == 3
        model.free.set()
        await asyncio.gather(*answers)
        await wait_until(lambda: len(batcher) == 0)

    run(test)


def test_inline_runs_share_a_batch_with_all_that_is_ready_and_need_no_thread() -> None:
    threads = set()

    async def body() -> None:
        model = Model()

        def note_thread(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
            threads.add(threading.current_thread())
            return model.run(image, target)

        batcher = Batcher(note_thread, 4, 0, lambda _: None, run_inline=True)
        answers = await asyncio.gather(*(batcher.submit(make_row(value)) for value in range(6)))
        assert [float(answer.logits[0]) for answer in answers] == [0, 1, 2, 3, 4, 5]
        assert model.batches == [[0, 1, 2, 3], [4, 5]]
        with pytest.raises(RuntimeError, match="poisoned"):
            await asyncio.gather(*(batcher.submit(make_row(value)) for value in (7, POISON)))
        assert (await batcher.submit(make_row(8))).logits == [8]

    asyncio.run(body())
    assert threads == {threading.main_thread()}


class Replicated:
    """A model with replicas: what ran whole and what in parts, either held until it is let go."""

    def __init__(self, replicas: int = 2, meeting: threading.Barrier | None = None) -> None:
        self.whole, self.parts = Model(), Model()

        def run_replica(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
            if meeting:
                meeting.wait(10)  # breaks unless as many run at the same time
            return self.parts.run(image, target)

        self.batcher = Batcher(
            self.whole.run, 4, 0, lambda _: None, run_replica=run_replica, replicas=replicas
        )

    async def ask(self, values: Sequence[int]) -> list[float]:
        """The first comes alone, the others while it runs."""
        self.whole.free.clear()
        answers = [self.batcher.submit(make_row(value)) for value in values]
        await asyncio.sleep(0.05)
        assert self.parts.batches == []  # as long as the whole model is taken
        self.whole.free.set()
        return [float(answer.logits[0]) for answer in await asyncio.gather(*answers)]


def test_in_a_crowd_each_lane_runs_parts_and_what_is_left_runs_as_a_whole() -> None:
    async def body() -> None:
        replicated = Replicated()
        assert await replicated.ask(range(10)) == list(range(10))
        assert replicated.whole.batches == [[0], [9]]
        assert sorted(replicated.parts.batches) == [[1, 2], [3, 4], [5, 6], [7, 8]]

    asyncio.run(body())


def test_all_replicas_run_at_the_same_time() -> None:
    async def body() -> None:
        replicated = Replicated(meeting=threading.Barrier(2))
        assert await replicated.ask(range(9)) == list(range(9))
        assert replicated.batcher.run_seconds == 0

    asyncio.run(body())


def test_each_lane_has_its_next_part_at_hand_while_the_loop_is_busy() -> None:
    async def body() -> None:
        replicated = Replicated()
        replicated.parts.free.clear()
        answers = [replicated.batcher.submit(make_row(value)) for value in range(9)]
        await answers[0]
        await asyncio.sleep(0.05)  # the others are handed over
        replicated.parts.free.set()
        keep_waiting_until(lambda: len(replicated.parts.batches) == 4, 10)
        assert [answer.logits[0] for answer in await asyncio.gather(*answers)] == list(range(9))

    asyncio.run(body())


def test_fewer_rows_than_a_crowd_run_as_a_whole() -> None:
    async def body() -> None:
        replicated = Replicated()
        assert await replicated.ask(range(8)) == list(range(8))
        assert replicated.whole.batches == [[0], [1, 2, 3, 4], [5, 6, 7]]
        assert replicated.parts.batches == []

    asyncio.run(body())


def test_of_more_replicas_than_rows_in_a_batch_each_runs_one_row() -> None:
    async def body() -> None:
        replicated = Replicated(replicas=6)
        assert await replicated.ask(range(13)) == list(range(13))
        assert sorted(replicated.parts.batches) == [[value] for value in range(1, 13)]

    asyncio.run(body())


def test_of_a_part_that_fails_only_the_culprit_does() -> None:
    async def body() -> None:
        replicated = Replicated()
        replicated.whole.free.clear()
        values = [0, 1, POISON, 3, 4, 5, 6, 7, 8]
        answers = [replicated.batcher.submit(make_row(value)) for value in values]
        replicated.whole.free.set()
        found = await asyncio.gather(*answers, return_exceptions=True)
        assert [isinstance(answer, Answer) for answer in found] == [v != POISON for v in values]

    asyncio.run(body())
