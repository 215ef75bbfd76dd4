"""One queue of rows for one model. A batch is formed the moment the model is free.

The queue lives on the event loop, so it needs no lock. Only a run itself happens in a thread. Rows
of predictions and of explanations share batches. Knows no engine, images or HTTP.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import ceil
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.artifact.card import TOP_1, RegionTarget
from service.runtime.engine import AnyOutputs, Outputs, Run
from service.runtime.policy import BatchPolicy
from service.runtime.row import Answer, AnyAnswer, MaskAnswer, Row

LONG_SECONDS = 0.02  # a run on the event loop that takes longer delays every client
MAX_LONG_RUNS = 3  # in a row; one may only mean that the machine is busy


class DeviceLost(Exception):
    """The device failed, so the model cannot run any row any more."""


@dataclass(frozen=True)
class BatchCallbacks:
    """Functions that the queue calls on the event loop."""

    on_batch_size: Callable[[int], None]  # the rows of a batch that has run
    on_batch: Callable[[AnyOutputs, NDArray[np.int64], list[bool]], None] | None = None  # after
    on_device_lost: Callable[[DeviceLost], None] | None = None  # once


class Batcher:
    """Feeds `run(image [N, H, W, C], target [N, T])`, one batch at a time, from one queue.

    While a batch runs, the next one is handed over as soon as it is full. A smaller one waits for
    the run to end, so that it can still grow. If there are several replicas and rows for each of
    them, `run_replica` runs parts of a batch instead. Each replica continues with its next part
    without waiting for the others, as long as there are rows for all that are free. Once a run
    raises `DeviceLost`, all rows are rejected. A model that runs on the event loop itself moves to
    a thread for good once a few runs have taken long.
    """

    def __init__(
        self,
        run: Run,
        policy: BatchPolicy,
        callbacks: BatchCallbacks,
        run_replica: Run | None = None,
    ) -> None:
        self.max_batch_size = policy.max_batch_size
        # Limits the rows that callers prepare: decoding long before a row's turn delays others.
        self.slots = asyncio.Semaphore(policy.rows_in_preparation)
        self.rows_per_request = policy.rows_per_request
        self._policy = policy
        self._callbacks = callbacks
        self._run = run
        self._run_replica = run_replica or run
        self._dispatch_scheduled = False
        self._lost: DeviceLost | None = None
        self._runs_since: set[float] = set()
        self._rows: deque[Row] = deque()
        self._running = 0  # batches that were handed over and are not answered
        self._long_runs = 0  # in a row, on the event loop
        self._use_replicas = True  # else each run uses all cores
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._threads = ThreadPoolExecutor(policy.replicas, thread_name_prefix="inference")

    def __len__(self) -> int:
        """Return how many rows wait."""
        return len(self._rows)

    @property
    def run_seconds(self) -> float:
        """Return how long the oldest running batch has been running."""
        since = self._runs_since.copy()  # the threads change it
        return perf_counter() - min(since) if since else 0.0

    def submit(self, row: Row) -> asyncio.Future[AnyAnswer]:
        """Queue a row. If the future is cancelled before the row starts, the row never runs."""
        loop = asyncio.get_running_loop()
        row.answer = loop.create_future()
        row.queued_at = perf_counter()
        if self._lost:
            row.answer.set_exception(self._lost)
            return row.answer
        self._rows.append(row)
        if not self._policy.run_inline:
            self._dispatch()
        elif not self._dispatch_scheduled:
            self._dispatch_scheduled = True
            loop.call_soon(self._dispatch)  # after the rows that are ready now: one batch for all
        return row.answer

    def discard(self, row: Row) -> bool:
        """Forget a row that was cancelled, so that its pixels do not stay until the next batch.

        Return whether a batch holds them. It calls the row's `on_end` when it has run.
        """
        with contextlib.suppress(ValueError):  # it runs, or has run
            self._rows.remove(row)
        return row.is_in_batch

    def _dispatch(self) -> None:
        """Hand over as many batches as may run now."""
        self._dispatch_scheduled = False
        while self._rows and (limit := self._choose_batch_size()):
            take = self._take_equal_rows if self._policy.has_regions else self._take_rows
            if batch := take(limit):
                self._running += 1
                for row in batch:
                    row.is_in_batch = True
                run = self._run_replica if self._use_replicas else self._run
                task = asyncio.ensure_future(self._answer_batch(batch, run))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _choose_batch_size(self) -> int:
        """Return how many rows the next batch may have; 0 if it must wait."""
        waiting, part = len(self._rows), self._policy.replica_batch_size
        free = self._policy.replicas - self._running
        if self._running:
            if not self._use_replicas or self._running >= self._policy.max_running:
                return 0
            if free <= 0:  # the next part is ready when a replica becomes free
                return part if waiting >= part else 0
            if waiting < free:  # a run on all cores answers so few rows sooner
                return 0
        if waiting < self.max_batch_size and self._wait_for_more():
            return 0
        self._use_replicas = waiting >= free
        return min(part, ceil(waiting / free)) if self._use_replicas else self.max_batch_size

    def _wait_for_more(self) -> bool:
        """Return whether the oldest row may still wait for others; if so, set a timer."""
        if not self._policy.max_queue_delay:
            return False
        left = self._rows[0].queued_at + self._policy.max_queue_delay - perf_counter()
        if left <= 0:
            return False
        if self._timer is None or self._timer.cancelled():
            self._timer = asyncio.get_running_loop().call_later(left, self._on_delay_timer)
        return True

    def _on_delay_timer(self) -> None:
        self._timer = None
        self._dispatch()

    def _take_rows(self, limit: int) -> list[Row]:
        """Take the oldest rows whose clients still wait."""
        batch: list[Row] = []
        while self._rows and len(batch) < limit:
            row = self._rows.popleft()
            if not row.answer.done():
                batch.append(row)
        return batch

    def _take_equal_rows(self, limit: int) -> list[Row]:
        """Take the oldest row and others that ask for as many maps as it does.

        Padding would cost as much as the maps that are asked for. There are at most as many maps as
        rows in a full batch, so a batch needs no more memory than a full one with a map for each.
        """
        full = self._policy.replica_batch_size if self._use_replicas else self.max_batch_size
        batch: list[Row] = []
        others: list[Row] = []
        while self._rows and len(batch) < limit:
            row = self._rows.popleft()
            if row.answer.done():
                continue
            if not batch:
                limit = min(limit, max(1, full // max(1, len(row.targets))))
            if not batch or len(row.targets) == len(batch[0].targets):
                batch.append(row)
            else:
                others.append(row)
        self._rows.extendleft(reversed(others))
        return batch

    async def _answer_batch(self, batch: list[Row], run: Run) -> None:
        try:
            await self._run_batch(batch, run)
        finally:
            self._running -= 1
            for row in batch:
                row.is_in_batch = False
                if row.on_end:
                    row.on_end()
            self._dispatch()

    async def _run_batch(self, batch: list[Row], run: Run) -> None:
        """Run a batch and answer its rows. If it fails, run its halves to find the bad row."""
        loop = asyncio.get_running_loop()
        try:
            if self._policy.run_inline:
                completed = self._run_rows(batch, run)
                self._watch_duration(completed)
            else:
                completed = await loop.run_in_executor(self._threads, self._run_rows, batch, run)
        except DeviceLost as exc:
            self._fail_all_rows([*batch, *self._rows], exc)
            return
        except Exception as exc:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._run_batch(batch[:middle], run)
                await self._run_batch(batch[middle:], run)
            elif not batch[0].answer.done():
                batch[0].answer.set_exception(exc)
            return
        if completed:
            self._deliver(completed)

    def _fail_all_rows(self, rows: list[Row], lost: DeviceLost) -> None:
        """Reject all rows, now and from now on."""
        self._rows.clear()
        for row in rows:
            if not row.answer.done():
                row.answer.set_exception(lost)
        if self._lost is None and self._callbacks.on_device_lost:
            self._callbacks.on_device_lost(lost)
        self._lost = lost

    def _run_rows(self, batch: list[Row], run: Run) -> "_CompletedBatch | None":
        """In the thread: stack the rows whose clients still wait, pad their targets, run."""
        rows = [row for row in batch if not row.answer.done()]
        if not rows:
            return None
        started = perf_counter()
        image = np.stack([row.pixels for row in rows])  # (N, H, W, C)
        if self._policy.has_regions:
            shape = (len(rows), len(rows[0].targets), len(RegionTarget._fields))  # (N, T, 6)
            target = np.array([row.targets for row in rows], np.int64).reshape(shape)
        else:
            targets = max(self._policy.min_targets, *(len(row.targets) for row in rows))
            target = np.full((len(rows), targets), TOP_1, np.int64)  # (N, T)
            for i, row in enumerate(rows):
                target[i, : len(row.targets)] = row.targets
        self._runs_since.add(started)
        try:
            outputs = run(image, target)
        finally:
            self._runs_since.discard(started)
        return _CompletedBatch(rows, target, outputs, started, perf_counter())

    def _watch_duration(self, completed: "_CompletedBatch | None") -> None:
        """Leave the event loop for good if runs on it take long, such as by subnormal numbers."""
        if not completed:
            return
        is_long = completed.ended - completed.started > LONG_SECONDS
        self._long_runs = self._long_runs + 1 if is_long else 0
        if self._long_runs == MAX_LONG_RUNS:
            self._policy = replace(self._policy, run_inline=False)

    def _deliver(self, completed: "_CompletedBatch") -> None:
        rows, target, outputs, started, ended = completed
        self._callbacks.on_batch_size(len(rows))
        if isinstance(outputs, Outputs):
            familiarity = outputs.familiarity
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
                            None if familiarity is None else familiarity[i],
                        )
                    )
        else:
            for i, row in enumerate(rows):
                if not row.answer.done():
                    arrays = (outputs.mask[i], outputs.probabilities[i], outputs.cam[i])
                    row.answer.set_result(
                        MaskAnswer(*arrays, row.queued_at, started, ended, len(rows))
                    )
        if self._callbacks.on_batch:  # once the clients have their answers
            is_traffic = [row.is_traffic for row in rows]
            loop = asyncio.get_running_loop()
            loop.call_soon(self._callbacks.on_batch, outputs, target, is_traffic)


class _CompletedBatch(NamedTuple):
    """A batch that has run."""

    rows: list[Row]
    target: NDArray[np.int64]  # (N, T)
    outputs: AnyOutputs
    started: float
    ended: float
