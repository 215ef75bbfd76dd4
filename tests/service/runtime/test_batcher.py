"""One queue of rows for one model."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from service.artifact.card import RegionTarget
from service.runtime.batcher import LONG_SECONDS, MAX_LONG_RUNS, BatchCallbacks, Batcher, DeviceLost
from service.runtime.engine import AnyOutputs, MaskOutputs, Outputs
from service.runtime.policy import BatchPolicy
from service.runtime.row import Answer, AnyAnswer, MaskAnswer, Row
from tests.server import wait_until as keep_waiting_until

POISON = 255
NO_CALLBACKS = BatchCallbacks(lambda _: None)


class Model:
    """Answers each row with its first pixel; can be held, and fails on a poisoned row."""

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


def read(answer: AnyAnswer) -> float:
    assert isinstance(answer, Answer)
    return float(answer.logits[0])


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def run(test: Callable[[Model, Batcher], Awaitable[None]], delay: float = 0) -> Model:
    """Run `test` on an event loop of its own with a batcher of at most four rows."""
    model = Model()

    async def body() -> None:
        await test(model, Batcher(model.run, BatchPolicy(4, delay), NO_CALLBACKS))

    asyncio.run(body())
    return model


def test_rows_submitted_during_a_run_share_the_next_batch_in_order() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        answers = [batcher.submit(make_row(value)) for value in range(4)]
        model.free.set()
        assert [read(answer) for answer in await asyncio.gather(*answers)] == [0, 1, 2, 3]

    assert run(test).batches == [[0], [1, 2, 3]]


def test_a_batch_is_never_larger_than_allowed_and_nothing_is_lost() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        answers = [batcher.submit(make_row(value)) for value in range(50)]
        assert list(range(50)) == [read(answer) for answer in await asyncio.gather(*answers)]

    model = run(test)
    assert sorted(row for batch in model.batches for row in batch) == list(range(50))
    assert max(map(len, model.batches)) == 4


def test_each_row_gets_its_own_maps_though_the_batch_ran_with_the_most_targets() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        asked: list[list[int]] = [[], [], [5], [6, 7, 8]]
        answers = [batcher.submit(make_row(9, targets)) for targets in asked]
        model.free.set()
        found = [answer.cam[:, 0, 0].tolist() for answer in await asyncio.gather(*answers)]
        assert found == asked

    assert run(test).targets[1] == [[-1, -1, -1], [5, -1, -1], [6, 7, 8]]


def test_predictions_alone_run_without_targets() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        await batcher.submit(make_row(1))

    assert run(test).targets == [[[]]]


def test_a_discarded_row_does_not_wait_for_the_next_batch() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        running, waiting, other = (make_row(value) for value in range(3))
        answers = [batcher.submit(row) for row in (running, waiting, other)]
        batcher.discard(running)
        batcher.discard(waiting)
        assert len(batcher) == 1
        model.free.set()
        assert [read(await answer) for answer in (answers[0], answers[2])] == [0, 2]

    assert run(test).batches == [[0], [2]]


def test_a_cancelled_row_never_runs() -> None:
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


def test_only_the_bad_row_of_a_failed_batch_fails() -> None:
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
        assert read(await batcher.submit(make_row(3))) == 3

    run(test)


def test_with_a_delay_a_single_row_waits_for_others_but_a_full_batch_does_not() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        answers = [batcher.submit(make_row(0))]
        await asyncio.sleep(0.01)
        answers += [batcher.submit(make_row(value)) for value in (1, 2, 3)]
        async with asyncio.timeout(10):
            await asyncio.gather(*answers)

    assert run(test, delay=60).batches == [[0, 1, 2, 3]]


def test_after_the_delay_a_single_row_runs() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        await batcher.submit(make_row(0))

    assert run(test, delay=0.1).batches == [[0]]


def test_the_length_is_the_number_of_waiting_rows() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.free.clear()
        answers = [batcher.submit(make_row(value)) for value in range(4)]
        assert len(batcher) == 3
        model.free.set()
        await asyncio.gather(*answers)
        await wait_until(lambda: len(batcher) == 0)

    run(test)


def test_an_inline_run_takes_all_ready_rows_and_needs_no_thread() -> None:
    threads = set()

    async def body() -> None:
        model = Model()

        def note_thread(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
            threads.add(threading.current_thread())
            return model.run(image, target)

        batcher = Batcher(note_thread, BatchPolicy(4, run_inline=True), NO_CALLBACKS)
        answers = await asyncio.gather(*(batcher.submit(make_row(value)) for value in range(6)))
        assert [read(answer) for answer in answers] == [0, 1, 2, 3, 4, 5]
        assert model.batches == [[0, 1, 2, 3], [4, 5]]
        with pytest.raises(RuntimeError, match="poisoned"):
            await asyncio.gather(*(batcher.submit(make_row(value)) for value in (7, POISON)))
        assert read(await batcher.submit(make_row(8))) == 8

    asyncio.run(body())
    assert threads == {threading.main_thread()}


def test_a_model_whose_runs_take_long_leaves_the_event_loop() -> None:
    in_threads = []

    async def body() -> None:
        model = Model()

        def take_long(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
            in_threads.append(threading.current_thread() is not threading.main_thread())
            time.sleep(LONG_SECONDS * 1.1)
            return model.run(image, target)

        batcher = Batcher(take_long, BatchPolicy(4, run_inline=True), NO_CALLBACKS)
        for value in range(MAX_LONG_RUNS + 2):
            assert read(await batcher.submit(make_row(value))) == value

    asyncio.run(body())
    assert in_threads == [False] * MAX_LONG_RUNS + [True] * 2


class Replicated:
    """A model with replicas: records what ran on all cores and what on one; each can be held.

    A part with the row `held` waits until `released` is set.
    """

    def __init__(
        self,
        replicas: int = 2,
        barrier: threading.Barrier | None = None,
        held: int | None = None,
    ) -> None:
        self.whole, self.parts = Model(), Model()
        self.released = threading.Event()

        def run_replica(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
            if barrier:
                barrier.wait(10)  # breaks unless as many run at the same time
            if held in image[:, 0, 0, 0]:
                self.released.wait(10)
            return self.parts.run(image, target)

        policy = BatchPolicy(4, replicas=replicas)
        self.batcher = Batcher(self.whole.run, policy, NO_CALLBACKS, run_replica)

    async def ask(self, values: Sequence[int]) -> list[float]:
        """Submit the first row alone, the others while it runs."""
        self.whole.free.clear()
        answers = [self.batcher.submit(make_row(value)) for value in values]
        await asyncio.sleep(0.05)
        assert self.parts.batches == []  # while all cores run the first row
        self.whole.free.set()
        return [read(answer) for answer in await asyncio.gather(*answers)]


def test_with_rows_for_each_replica_all_run_parts_until_no_row_is_left() -> None:
    async def body() -> None:
        replicated = Replicated()
        assert await replicated.ask(range(10)) == list(range(10))
        assert replicated.whole.batches == [[0]]
        assert sorted(replicated.parts.batches) == [[1, 2], [3, 4], [5, 6], [7, 8], [9]]

    asyncio.run(body())


def test_all_replicas_run_at_the_same_time() -> None:
    async def body() -> None:
        replicated = Replicated(barrier=threading.Barrier(2))
        assert await replicated.ask(range(9)) == list(range(9))
        assert replicated.batcher.run_seconds == 0

    asyncio.run(body())


def test_each_replica_has_its_next_part_ready_while_the_loop_is_busy() -> None:
    async def body() -> None:
        replicated = Replicated()
        replicated.parts.free.clear()
        answers = [replicated.batcher.submit(make_row(value)) for value in range(9)]
        await answers[0]
        await asyncio.sleep(0.05)  # until the others are handed over
        replicated.parts.free.set()
        keep_waiting_until(lambda: len(replicated.parts.batches) == 4, 10)
        assert [read(answer) for answer in await asyncio.gather(*answers)] == list(range(9))

    asyncio.run(body())


def test_replicas_that_are_free_share_the_rows_evenly() -> None:
    async def body() -> None:
        replicated = Replicated()
        assert await replicated.ask(range(4)) == list(range(4))
        assert sorted(replicated.parts.batches) == [[1, 2], [3]]

    asyncio.run(body())


def test_fewer_rows_than_replicas_run_on_all_cores() -> None:
    async def body() -> None:
        replicated = Replicated(replicas=4)
        assert await replicated.ask(range(4)) == list(range(4))
        assert replicated.whole.batches == [[0], [1, 2, 3]]
        assert replicated.parts.batches == []

    asyncio.run(body())


def test_rows_that_are_too_few_for_the_free_replicas_wait_for_all_cores() -> None:
    async def body() -> None:
        replicated = Replicated(replicas=3, held=3)
        answers = [replicated.batcher.submit(make_row(value)) for value in range(4)]
        await asyncio.gather(*answers[:3])  # the third replica still runs
        answers.append(replicated.batcher.submit(make_row(4)))
        assert len(replicated.batcher) == 1
        replicated.released.set()
        assert [read(answer) for answer in await asyncio.gather(*answers)] == list(range(5))
        assert replicated.whole.batches == [[0], [4]]

    asyncio.run(body())


def test_with_more_replicas_than_rows_in_a_batch_each_runs_one_row() -> None:
    async def body() -> None:
        replicated = Replicated(replicas=6)
        assert await replicated.ask(range(13)) == list(range(13))
        assert sorted(replicated.parts.batches) == [[value] for value in range(1, 13)]

    asyncio.run(body())


def test_only_the_bad_row_of_a_failed_part_fails() -> None:
    async def body() -> None:
        replicated = Replicated()
        replicated.whole.free.clear()
        values = [0, 1, POISON, 3, 4, 5, 6, 7, 8]
        answers = [replicated.batcher.submit(make_row(value)) for value in values]
        replicated.whole.free.set()
        found = await asyncio.gather(*answers, return_exceptions=True)
        assert [isinstance(answer, Answer) for answer in found] == [v != POISON for v in values]

    asyncio.run(body())


def test_a_lost_device_rejects_all_rows_from_then_on_and_is_reported_once() -> None:
    reported: list[DeviceLost] = []
    held = threading.Event()

    def fail(_: NDArray[np.uint8], __: NDArray[np.int64]) -> Outputs:
        held.wait(10)
        raise DeviceLost("gone")

    async def body() -> None:
        callbacks = BatchCallbacks(lambda _: None, on_device_lost=reported.append)
        batcher = Batcher(fail, BatchPolicy(4), callbacks)
        answers = [batcher.submit(make_row(value)) for value in range(6)]
        held.set()
        found = await asyncio.gather(*answers, return_exceptions=True)
        found += await asyncio.gather(batcher.submit(make_row(7)), return_exceptions=True)
        assert all(isinstance(answer, DeviceLost) for answer in found)
        assert len(batcher) == 0

    asyncio.run(body())
    assert [str(lost) for lost in reported] == ["gone"]


def test_callbacks_see_each_batch_with_at_least_the_minimum_of_targets() -> None:
    sizes: list[int] = []
    batches: list[tuple[list[list[int]], list[bool]]] = []

    def note_batch(_: AnyOutputs, target: NDArray[np.int64], counts: list[bool]) -> None:
        batches.append((target.tolist(), counts))

    async def body() -> None:
        policy = BatchPolicy(4, run_inline=True, min_targets=1)
        batcher = Batcher(Model().run, policy, BatchCallbacks(sizes.append, note_batch))
        rows = [make_row(1), Row(np.zeros((1, 1, 1), np.uint8), [], is_traffic=False)]
        answers = await asyncio.gather(*(batcher.submit(row) for row in rows))
        assert [answer.cam.shape for answer in answers] == [(0, 1, 1)] * 2

    asyncio.run(body())
    assert sizes == [2]
    assert batches == [([[-1], [-1]], [True, False])]


@pytest.mark.parametrize("run_inline", [True, False])
def test_clients_have_their_answers_before_the_batch_is_counted(run_inline: bool) -> None:
    events: list[str] = []

    async def answer(batcher: Batcher, value: int) -> None:
        await batcher.submit(make_row(value))
        events.append("answer")

    async def body() -> None:
        callbacks = BatchCallbacks(lambda _: None, lambda *_: events.append("counted"))
        batcher = Batcher(Model().run, BatchPolicy(4, run_inline=run_inline), callbacks)
        await asyncio.gather(answer(batcher, 1), answer(batcher, 2))
        await wait_until(lambda: "counted" in events)

    asyncio.run(body())
    assert events[0] == "answer"  # the others may come in batches of their own


def test_rows_with_regions_share_a_batch_only_with_rows_that_ask_for_as_many_maps() -> None:
    """Nothing is padded. Rows and their maps together are at most as many as rows alone may be."""
    batches: list[tuple[int, ...]] = []

    def run(image: NDArray[np.uint8], target: NDArray[np.int64]) -> MaskOutputs:
        batches.append(target.shape)
        rows, targets = target.shape[:2]
        cam = target[..., 0].astype(np.float32).reshape(rows, targets, 1, 1)
        return MaskOutputs(image[..., 0], image.transpose(0, 3, 1, 2).astype(np.float32), cam)

    def make(value: int, targets: int) -> Row:
        region = RegionTarget(value, -1, 0, 0, 1, 1)
        return Row(np.full((1, 1, 1), value, np.uint8), [region] * targets)

    async def body() -> None:
        batcher = Batcher(run, BatchPolicy(4, run_inline=True, has_regions=True), NO_CALLBACKS)
        counts = [0, 1, 0, 2, 1, 2, 0, 2, 9]
        rows = [make(value, count) for value, count in enumerate(counts)]
        answers = await asyncio.gather(*(batcher.submit(row) for row in rows))
        for value, (count, answer) in enumerate(zip(counts, answers, strict=True)):
            assert isinstance(answer, MaskAnswer)
            assert answer.mask == [[value]]
            assert answer.cam.ravel().tolist() == [value] * count

    asyncio.run(body())
    assert batches == [(3, 0, 6), (2, 1, 6), (2, 2, 6), (1, 2, 6), (1, 9, 6)]
