"""The numbers that follow from a batch policy."""

import pytest

from service.runtime.policy import BatchPolicy


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [  # rows of one replica, running batches, rows of a backlog, rows in preparation
        (1, (8, 2, 16, 32)),
        (2, (4, 4, 16, 32)),
        (3, (3, 6, 18, 36)),
        (16, (1, 32, 32, 64)),
    ],
)
def test_replicas_share_a_batch(replicas: int, expected: tuple[int, int, int, int]) -> None:
    policy = BatchPolicy(8, replicas=replicas)
    assert expected == (
        policy.replica_batch_size,
        policy.max_running,
        policy.backlog_rows,
        policy.rows_in_preparation,
    )
    assert policy.rows_per_request == expected[3] / 2
