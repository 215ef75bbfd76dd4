"""Several processes that train one network: who this one is, and what they share.

Started by torchrun; a process alone shares with nobody. Knows nothing of batches or losses.
"""

import os
from collections.abc import Iterable, Sequence

import torch
from torch import distributed

from training.errors import UserError


def get_rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def get_world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def join_process_group(device: str) -> torch.device:
    """Join the others if torchrun started several; the device that is this process's own."""
    place = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = f"cuda:{place}" if torch.cuda.is_available() else "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return torch.device(device)


def leave_process_group() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def check_batch_size(batch: int) -> None:
    """Refuse a batch that can't be dealt out evenly."""
    if batch % get_world_size():
        raise UserError(
            f"A batch of {batch} can't be dealt out evenly to {get_world_size()} processes."
        )


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Every gradient becomes the mean of all processes' gradients."""
    if get_world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= get_world_size()
    at = 0
    for gradient in gradients:
        gradient.copy_(flat[at : at + gradient.numel()].view_as(gradient))
        at += gradient.numel()


def broadcast_from_first(values: Sequence[float], device: torch.device) -> list[float]:
    """The first process's numbers, for all."""
    if get_world_size() == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(shared, 0)
    return [float(value) for value in shared]
