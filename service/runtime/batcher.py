"""One queue of rows before one model: a batch is formed the moment the model is free.

Lives on the event loop, so the queue needs no lock; only a run itself happens in a thread. Rows of
predictions and of explanations share batches. Knows nothing of onnxruntime, pictures or HTTP.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from math import ceil
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import TOP_1

BATCHES_IN_PREPARATION = 4  # being prepared, waiting and running
BACKLOG_BATCHES = 2  # batches that wait: enough for every lane to run on without the others
BATCHES_PER_REPLICA = 2  # handed over: one runs, one is at hand while the event loop is busy


class DeviceLost(Exception):
    """The model can't be run here any more, whatever the row."""


class Answer(NamedTuple):
    """One row's share of a batch's outputs, and when it was where, by `perf_counter`."""

    logits: NDArray[np.float32]  # (K,)
    probabilities: NDArray[np.float32]  # (K,)
    cam: NDArray[np.float32]  # (T, h, w)
    queued_at: float
    started: float
    ended: float
    batch_size: int


@dataclass(eq=False)
class Row:
    """One picture to run, with the class indices to explain (none is a plain prediction)."""

    pixels: NDArray[np.uint8]  # (H, W, C)
    targets: Sequence[int]
    is_traffic: bool = True  # as a picture of the traffic, when it is watched where the model looks
    answer: asyncio.Future[Answer] = field(init=False)
    queued_at: float = field(init=False)


class Outputs(NamedTuple):
    """What a model answers for one batch."""

    logits: NDArray[np.float32]  # (N, K)
    probabilities: NDArray[np.float32]  # (N, K)
    cam: NDArray[np.float32]  # (N, T, h, w)


Run = Callable[[NDArray[np.uint8], NDArray[np.int64]], Outputs]
Observer = Callable[[Outputs, NDArray[np.int64], list[bool]], None]


class Batcher:
    """Feeds `run(image [N, H, W, C], target [N, T])`, one batch at a time, from one queue.

    While a batch runs, the next one is handed over as soon as it is full; a smaller one waits for
    the run to end, so that it can still grow. With several `lanes`, a crowd is run by `run_part`
    instead: a batch is shared out, and each lane goes on with its next part, without waiting for
    the others, until the crowd is gone. `watch` sees each batch once it is answered, with at
    least `least_targets` maps a row. Once a run raises `DeviceLost`, all rows are refused.
    `brief` runs happen on the loop itself: a thread would cost more than it could save.
    """

    def __init__(
        self,
        run: Run,
        max_batch_size: int,
        max_queue_delay: float,
        observe_batch_size: Callable[[int], None],
        observe_batch: Observer | None = None,
        min_targets: int = 0,
        on_device_lost: Callable[[DeviceLost], None] | None = None,
        run_inline: bool = False,
        run_replica: Run | None = None,
        replicas: int = 1,
    ) -> None:
        self.max_batch_size = max_batch_size
        self._replicas = replicas
        self._replica_batch_size = ceil(max_batch_size / replicas)
        self._max_running = BATCHES_PER_REPLICA * replicas
        shared_out = replicas * self._replica_batch_size  # a batch, or a row for each lane
        self._backlog_rows = BACKLOG_BATCHES * shared_out
        # For who prepares rows: done long before their turn, the work for them delays others'.
        self.slots = asyncio.Semaphore(BATCHES_IN_PREPARATION * shared_out)
        self._run = run
        self._run_replica = run_replica or run
        self._max_queue_delay = max_queue_delay
        self._observe_batch_size = observe_batch_size
        self._observe_batch = observe_batch
        self._min_targets = min_targets
        self._on_device_lost = on_device_lost
        self._run_inline = run_inline
        self._dispatch_scheduled = False
        self._lost: DeviceLost | None = None
        self._runs_since: set[float] = set()
        self._rows: deque[Row] = deque()
        self._running = 0  # batches handed over and not answered
        self._use_replicas = True  # whether each of them has one lane, not all
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(replicas, thread_name_prefix="inference")

    def __len__(self) -> int:
        """Rows that wait."""
        return len(self._rows)

    @property
    def run_seconds(self) -> float:
        """How long the oldest batch that runs has been running."""
        since = self._runs_since.copy()  # which the threads change
        return perf_counter() - min(since) if since else 0.0

    def submit(self, row: Row) -> asyncio.Future[Answer]:
        """Queue a row. Cancel the future, and a row that has not started never runs."""
        loop = asyncio.get_running_loop()
        row.answer = loop.create_future()
        row.queued_at = perf_counter()
        if self._lost:
            row.answer.set_exception(self._lost)
            return row.answer
        self._rows.append(row)
        if not self._run_inline:
            self._dispatch()
        elif (
            not self._dispatch_scheduled
        ):  # after whoever else is ready now, so that they share the batch
            self._dispatch_scheduled = True
            loop.call_soon(self._dispatch)
        return row.answer

    def _dispatch(self) -> None:
        """Start what there is room for, and stage one batch more where it is full."""
        self._dispatch_scheduled = False
        while self._rows and (most := self._choose_batch_size()):
            if batch := self._take_rows(most):
                self._running += 1
                run = self._run_replica if self._use_replicas else self._run
                task = asyncio.ensure_future(self._answer_batch(batch, run))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _choose_batch_size(self) -> int:
        """How many rows the next batch may have; 0 while it has to wait."""
        waiting = len(self._rows)
        if self._running:
            room = self._use_replicas and self._running < self._max_running
            return self._replica_batch_size if room and waiting >= self._replica_batch_size else 0
        if waiting < self.max_batch_size and self._wait_for_more():
            return 0
        self._use_replicas = self._replicas == 1 or waiting >= self._backlog_rows
        return self._replica_batch_size if self._use_replicas else self.max_batch_size

    def _wait_for_more(self) -> bool:
        """Whether the oldest row may still wait for company; a timer then looks again."""
        if not self._max_queue_delay:
            return False
        left = self._rows[0].queued_at + self._max_queue_delay - perf_counter()
        if left <= 0:
            return False
        if self._timer is None or self._timer.cancelled():
            self._timer = asyncio.get_running_loop().call_later(left, self._on_delay_timer)
        return True

    def _on_delay_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _take_rows(self, most: int) -> list[Row]:
        """The oldest rows that somebody still waits for."""
        batch: list[Row] = []
        while self._rows and len(batch) < most:
            row = self._rows.popleft()
            if not row.answer.done():
                batch.append(row)
        return batch

    async def _answer_batch(self, batch: list[Row], run: Run) -> None:
        try:
            await self._run_batch(batch, run)
        finally:
            self._running -= 1
            self._dispatch()

    async def _run_batch(self, batch: list[Row], run: Run) -> None:
        """Run, and hand each row its own; of a batch that fails, only the culprit does."""
        loop = asyncio.get_running_loop()
        try:
            if self._run_inline:
                ran = self._run_rows(batch, run)
            else:
                ran = await loop.run_in_executor(self._threads, self._run_rows, batch, run)
        except DeviceLost as fault:
            self._fail_all_rows([*batch, *self._rows], fault)
            return
        except Exception as fault:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._run_batch(batch[:middle], run)
                await self._run_batch(batch[middle:], run)
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(fault)
            return
        if ran:
            self._deliver(ran)

    def _fail_all_rows(self, rows: list[Row], fault: DeviceLost) -> None:
        """Refuse all rows, now and from now on."""
        self._rows.clear()
        for row in rows:
            if not row.answer.done():
                row.answer.set_exception(fault)
        if self._lost is None and self._on_device_lost:
            self._on_device_lost(fault)
        self._lost = fault

    def _run_rows(self, batch: list[Row], run: Run) -> "_CompletedBatch | None":
        """In the thread: stack the rows that are still wanted, pad their targets, run."""
        rows = [row for row in batch if not row.answer.done()]
        if not rows:
            return None
        started = perf_counter()
        image = np.stack([row.pixels for row in rows])  # (N, H, W, C)
        most = max(self._min_targets, *(len(row.targets) for row in rows))
        target = np.full((len(rows), most), TOP_1, np.int64)  # (N, T)
        for i, row in enumerate(rows):
            target[i, : len(row.targets)] = row.targets
        self._runs_since.add(started)
        try:
            outputs = run(image, target)
        finally:
            self._runs_since.discard(started)
        return _CompletedBatch(rows, target, outputs, started, perf_counter())

    def _deliver(self, ran: "_CompletedBatch") -> None:
        rows, target, outputs, started, ended = ran
        self._observe_batch_size(len(rows))
        for i, row in enumerate(rows):
            if not row.answer.done():
                row.answer.set_result(
                    Answer(
                        outputs.logits[i],
                        outputs.probabilities[i],
                        outputs.cam[i, : len(row.targets)],
                        row.queued_at,
                        started,
                        ended,
                        len(rows),
                    )
                )
        if self._observe_batch:
            self._observe_batch(outputs, target, [row.is_traffic for row in rows])


class _CompletedBatch(NamedTuple):
    """A batch that has run."""

    rows: list[Row]
    target: NDArray[np.int64]  # (N, T)
    outputs: Outputs
    started: float
    ended: float
