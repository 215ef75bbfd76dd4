"""The numbers that follow from a batch policy."""

import pytest

from service.runtime.policy import BatchPolicy


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [  # rows of one replica, running batches, rows in preparation
        (1, (8, 2, 32)),
        (2, (4, 4, 32)),
        (3, (3, 6, 36)),
        (16, (1, 32, 64)),
    ],
)
def test_replicas_share_a_batch(replicas: int, expected: tuple[int, int, int]) -> None:
    policy = BatchPolicy(8, replicas=replicas)
    assert expected == (
        policy.replica_batch_size,
        policy.max_running,
        policy.rows_in_preparation,
    )
    assert policy.rows_per_request == expected[2] / 2


def test_rows_that_run_alone_are_prepared_like_those_of_batches() -> None:
    alone, shared = BatchPolicy(8, replicas=2, rows_alone=True), BatchPolicy(8, replicas=2)
    assert (alone.replica_batch_size, alone.max_running) == (1, 4)
    assert alone.rows_in_preparation == shared.rows_in_preparation
