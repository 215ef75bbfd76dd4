"""State dicts: read from .npz, .safetensors and .pt files, and loaded into networks."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from training.errors import UserError

StateDict = dict[str, torch.Tensor]


def read_state_dict(path: Path) -> StateDict:
    """The tensors of a weights file by name. Code in the file is never executed.

    Raises:
        UserError: the file is missing, broken or of another kind.
    """
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
    except FileNotFoundError as error:
        raise UserError(f"There is no weights file {path}.") from error
    except Exception as error:  # each library raises its own kinds
        raise UserError(f"{path} is not a readable weights file: {error}.") from error
    raise UserError(f"{path} must be a .npz, .safetensors, .pt, .pth or .bin file.")


def unwrap_state_dict(state: object) -> StateDict:
    """The tensors of a file that may nest them under `weights`, `state_dict` or `model`."""
    while isinstance(state, dict):
        if state and all(isinstance(value, torch.Tensor) for value in state.values()):
            return {name.removeprefix("module."): value for name, value in state.items()}
        state = next((state[k] for k in ("weights", "state_dict", "model") if k in state), None)
    raise ValueError("it has no named tensors")


def load_into_network(network: nn.Module, state: StateDict, partly: bool = False) -> list[str]:
    """Load a state dict into a network and return the names of parameters that were not loaded.

    With `partly`, parameters that are missing in the state dict or have another shape keep their
    values. Auxiliary heads, which are used in training only, may be in the state dict alone.

    Raises:
        UserError: names or shapes differ, or with `partly` more than half of them do.
    """
    own = network.state_dict()
    state = {name: value for name, value in state.items() if not name.lower().startswith("aux")}
    fresh = [n for n, value in own.items() if n not in state or state[n].shape != value.shape]
    fresh = [name for name in fresh if not name.endswith("num_batches_tracked")]
    extra = [name for name in state if name not in own]
    if extra or (fresh and not partly):
        names = ", ".join((extra + fresh)[:4])
        raise UserError(
            f"The weights do not match the network: {len(extra + fresh)} tensors differ, "
            f"such as {names}."
        )
    if len(fresh) > len(own) // 2:
        raise UserError(
            f"The weights match less than half of the network. {fresh[0]}, for example, differs."
        )
    network.load_state_dict({n: v for n, v in state.items() if n not in fresh}, strict=False)
    return fresh
