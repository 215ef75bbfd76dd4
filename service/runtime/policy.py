"""The rules by which a queue forms its batches. Knows numbers only: no queue and no engine."""

from dataclasses import dataclass
from functools import cached_property
from math import ceil

BATCHES_IN_PREPARATION = 4  # prepared, waiting or running at the same time
BATCHES_PER_REPLICA = 2  # one runs, one is ready for when the event loop is busy


@dataclass(frozen=True)
class BatchPolicy:
    """How batches are formed."""

    max_batch_size: int
    max_queue_delay: float = 0.0  # seconds that a row may wait for others; 0: run at once
    replicas: int = 1  # runs at the same time when there are rows for each
    rows_alone: bool = False  # a replica runs single rows, because a batch is no faster
    run_inline: bool = False  # run on the event loop, because a thread would take longer
    min_targets: int = 0  # maps of each row, even if nobody asked for one
    has_regions: bool = False  # each target has a region, so a padded one would cost a map

    @cached_property
    def replica_batch_size(self) -> int:
        """Rows that one replica runs at once."""
        return 1 if self.rows_alone else ceil(self.max_batch_size / self.replicas)

    @cached_property
    def max_running(self) -> int:
        """Batches that may be handed to the replicas at the same time."""
        return BATCHES_PER_REPLICA * self.replicas

    @cached_property
    def rows_in_preparation(self) -> int:
        """Rows that may be decoded, waiting or running; decoding more would only delay others."""
        return BATCHES_IN_PREPARATION * self._rows_at_once

    @cached_property
    def rows_per_request(self) -> int:
        """Rows of one request that may be in preparation, so that it leaves places to others."""
        return self.rows_in_preparation // 2

    @cached_property
    def _rows_at_once(self) -> int:
        """A batch, or one row for each replica."""
        return max(self.max_batch_size, self.replicas * self.replica_batch_size)
