"""State dicts from files: .npz, .safetensors, .pt. Knows nothing of the networks they fit."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from training.errors import UserError

StateDict = dict[str, torch.Tensor]


def read_state_dict(path: Path) -> StateDict:
    """The tensors of a weights file by name; code in it is never run."""
    try:
        match path.suffix:
            case ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
            case ".safetensors":
                return dict(load_file(path))
            case ".pt" | ".pth" | ".bin":
                state = torch.load(path, map_location="cpu", weights_only=True)
                return unwrap_state_dict(state)
    except FileNotFoundError as fault:
        raise UserError(f"There is no weights file {path}.") from fault
    except Exception as fault:  # any library's complaint about the file
        raise UserError(f"{path} can't be read as weights: {fault}.") from fault
    raise UserError(f"{path} is no .npz, .safetensors, .pt or .pth file.")


def unwrap_state_dict(state: object) -> StateDict:
    """The tensors themselves, where a file holds them under a key as trainers like to."""
    while isinstance(state, dict):
        if state and all(isinstance(value, torch.Tensor) for value in state.values()):
            return {name.removeprefix("module."): value for name, value in state.items()}
        state = next((state[k] for k in ("weights", "state_dict", "model") if k in state), None)
    raise ValueError("it holds no tensors by name")


def load_into_network(network: nn.Module, state: StateDict, partly: bool = False) -> list[str]:
    """Load a state into a network; `partly` keeps what has another shape, and returns its names.

    Parts that only train (auxiliary heads) may be in the file without being in the network.
    """
    own = network.state_dict()
    state = {name: value for name, value in state.items() if not name.lower().startswith("aux")}
    fresh = [n for n, value in own.items() if n not in state or state[n].shape != value.shape]
    fresh = [name for name in fresh if not name.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in own]
    if extra or (fresh and not partly):
        names = ", ".join((extra + fresh)[:4])
        raise UserError(
            f"The weights don't fit the network: {len(extra + fresh)} differ, as {names}."
        )
    if len(fresh) > len(own) // 2:
        raise UserError(f"The weights fit hardly anything of the network: not {fresh[0]}, for one.")
    network.load_state_dict({n: v for n, v in state.items() if n not in fresh}, strict=False)
    return fresh
