"""Training on several processes, started by torchrun: ranks, gradients and shared numbers.

Without torchrun there is one process. Knows nothing of batches or losses.
"""

import os
from collections.abc import Iterable, Sequence

import torch
from torch import distributed

from training.errors import UserError


def get_rank() -> int:
    """The index of this process; 0 if it is the only one. Known outside the process group, too."""
    return int(os.environ.get("RANK", "0"))  # torchrun sets it


def get_world_size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def join_process_group(device: str) -> torch.device:
    """Join the process group if torchrun started one; returns this process's device."""
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "auto":
        device = f"cuda:{local_rank}" if torch.cuda.is_available() else "cpu"
    check_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return torch.device(device)


def check_device(name: str) -> None:
    """Raise UserError if torch finds no such device."""
    kind, _, index = name.partition(":")
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if int(index or 0) >= count.get(kind, 1):
        raise UserError(
            f"device={name} is not available: torch finds {count[kind]} {kind} devices. "
            "Use device=auto or device=cpu."
        )


def leave_process_group() -> None:
    """Leave the process group, if this process is in one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def check_batch_size(batch: int) -> None:
    """Raise UserError if the batch cannot be divided evenly among the processes."""
    if batch % get_world_size():
        raise UserError(
            f"batch_size must be a multiple of the {get_world_size()} processes, got {batch}."
        )


@torch.no_grad()
def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over all processes."""
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
    """The numbers of the first process, in every process."""
    if get_world_size() == 1:
        return list(values)
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(shared, 0)
    return [float(value) for value in shared]
