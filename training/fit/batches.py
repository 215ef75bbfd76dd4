"""Batches of a split, in order or shuffled, and each process's share of them."""

from collections.abc import Iterator

import numpy as np
import torch

from training.data.datasets import Split
from training.fit.distributed import get_rank, get_world_size


def iterate_batches(
    split: Split, size: int, seed: int | None = None, passes: int = 1
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of pictures (n, H, W, C) uint8 and labels.

    With a seed each pass is shuffled, a smaller last batch is dropped, and each process gets its
    share of every batch.
    """
    order = np.arange(len(split))
    if seed is not None:
        rng = np.random.default_rng(seed)
        order = np.concatenate([rng.permutation(order) for _ in range(passes)])
        order = order[: max(len(order) // size, 1) * size]
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        if seed is not None:
            rows = rows[get_rank() :: get_world_size()]
        yield torch.from_numpy(split.pictures[rows]), torch.from_numpy(split.labels[rows])
