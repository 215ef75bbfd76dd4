"""Training on several processes, started by torchrun: ranks, the network, and what they exchange.

Without torchrun there is one process. Knows nothing of batches or losses.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from training.errors import UserError

T = TypeVar("T")


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
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # what processes exchange goes through it
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


def check_norms(sync_batch_norm: bool, device: torch.device) -> None:
    """Raise UserError if norms are to be synchronised where torch cannot do it."""
    if sync_batch_norm and device.type != "cuda":
        raise UserError(
            f"sync_batch_norm=True works on GPUs only, and the run is on {device.type}. "
            "Set it to False."
        )


def distribute(model: nn.Module, image: torch.Tensor) -> nn.Module:
    """The network in a wrapper that averages gradients over the processes, if there are several.

    The pictures (N, H, W, C) show whether some parts of the network have no gradient.
    """
    if get_world_size() == 1 or not any(weight.requires_grad for weight in model.parameters()):
        return model
    unused = bool(find_unused_weights(model, image))
    devices = list_gpus(image.device) or None
    return DistributedDataParallel(model, devices, find_unused_parameters=unused)


def find_unused_weights(model: nn.Module, image: torch.Tensor) -> list[str]:
    """The names of the weights that learn nothing in a step. The network stays as it is."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(list_gpus(image.device)):
        model(image).float().sum().backward()
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    weights = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    unused = [name for name, weight in weights if weight.grad is None]
    model.zero_grad()
    return unused


def list_gpus(device: torch.device) -> list[torch.device]:
    """The device, if it is a GPU."""
    return [device] if device.type == "cuda" else []


def hold_gradients(network: object, held: bool) -> AbstractContextManager[None]:
    """While gradients are held, they are summed in each process and not averaged."""
    inner = getattr(network, "_orig_mod", network)  # torch.compile's wrapper
    if held and isinstance(inner, DistributedDataParallel):
        return inner.no_sync()
    return nullcontext()


@torch.no_grad()
def share_buffers(model: nn.Module) -> None:
    """Replace every buffer, such as the statistics of batch-norm, by the first process's."""
    if get_world_size() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)


def average(value: float, device: torch.device) -> float:
    """The mean of the processes' values, in each of them."""
    if get_world_size() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(shared)
    return shared.item() / get_world_size()


def gather(value: T) -> list[T]:
    """The values of all processes, in their order. Each gets all of them."""
    if get_world_size() == 1:
        return [value]
    values: list[T] = [value] * get_world_size()
    distributed.all_gather_object(values, value)
    return values
