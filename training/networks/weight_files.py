"""Reads the tensors of weights files: .npz, .safetensors, and what torch.save writes.

Code in a file is never executed. Knows nothing of networks.
"""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from safetensors.torch import load_file

from training.errors import UserError

StateDict = dict[str, torch.Tensor]

SUFFIXES = (".npz", ".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
# Under which training programs keep the weights.
KNOWN_KEYS = ("weights", "state_dict", "model", "model_state_dict", "net", "network", "module")
ADVICE = "Save net.state_dict() with torch.save, and give that file."


class Unread:
    """Stands in for an object of any class in a checkpoint. The class itself is never imported."""

    def __new__(cls, *_: object, **__: object) -> "Unread":
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Forget what the object held."""


class UnreadDictionary:
    """Stands in for a class of dictionaries, such as defaultdict: a plain one is made."""

    def __new__(cls, *_: object) -> dict[Any, Any]:  # type: ignore[misc]  # on purpose
        return {}


def read_state_dict(path: Path) -> StateDict:
    """The tensors of a weights file by name.

    Raises:
        UserError: the file is missing, broken or of another kind, or holds no state dict.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(
            f"{path} must be a {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file. {ADVICE}"
        )
    try:
        match path.suffix:
            case ".npz":
                with np.load(path, allow_pickle=False) as arrays:
                    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
            case ".safetensors":
                return dict(load_file(path))
            case _:
                content = load_checkpoint_file(path)
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(f"There is no weights file {path}.") from error
    except Exception as error:  # each library raises its own kinds
        raise UserError(f"{path} is not a readable weights file: {summarize(error)}") from error
    return find_state_dict(content, path)


def load_checkpoint_file(path: Path) -> object:
    """What torch.save stored, with stand-ins for all objects but tensors and plain containers."""
    if is_torchscript(path):
        raise UserError(
            f"{path} is a TorchScript program, which holds code. It is not read. {ADVICE}"
        )
    stand_ins: list[tuple[Callable[..., object], str]] = []
    if zipfile.is_zipfile(path):
        stand_ins = [
            (UnreadDictionary if name.lower().endswith("dict") else Unread, name)
            for name in torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
        ]
    with torch.serialization.safe_globals(stand_ins):  # type: ignore[arg-type]  # pairs are accepted
        return torch.load(path, map_location="cpu", weights_only=True)


def is_torchscript(path: Path) -> bool:
    """Whether torch.jit.save wrote the file."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def summarize(error: Exception) -> str:
    """The reason why a file is not readable. Torch's own advice to execute its code is left out."""
    text = str(error).partition("WeightsUnpickler error: ")[2] or str(error)
    first = (text.strip() or type(error).__name__).splitlines()[0].rstrip(".")
    if text != str(error) or "weights_only" in first:
        return f"it holds more than tensors, and code in a file is never executed. {ADVICE}"
    return f"{first}."


def find_state_dict(content: object, path: Path) -> StateDict:
    """The state dict in a checkpoint: under a known key, the whole, or the only one inside it.

    Raises:
        UserError: there is none, or there are several.
    """
    if isinstance(content, dict) and (found := list_state_dicts(content)):
        return find_state_dict(content[pick_only(found, path)], path)
    if is_state_dict(content):
        return {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    entries = content if isinstance(content, dict) else {}
    if any(isinstance(part, Unread) for part in (content, *map(entries.get, KNOWN_KEYS))):
        raise UserError(
            f"{path} holds a whole network as a Python object. Code in a file is never executed, "
            f"so it is not read. {ADVICE}"
        )
    kind = "nothing" if content == {} else f"a {type(content).__name__}"
    holds = ", ".join(map(str, list(entries)[:8])) or kind
    raise UserError(f"{path} holds no state dict. It holds {holds}. {ADVICE}")


def list_state_dicts(content: dict[Any, Any]) -> list[str]:
    """The keys of the state dicts in a checkpoint. Known keys hide the others."""
    inside = [key for key, value in content.items() if is_state_dict(value) or has_known(value)]
    return [key for key in inside if key in KNOWN_KEYS] or inside


def has_known(content: object) -> bool:
    """Whether this is a dictionary with a state dict under a known key."""
    return isinstance(content, dict) and any(is_state_dict(content.get(k)) for k in KNOWN_KEYS)


def is_state_dict(content: object) -> TypeGuard[dict[str, Any]]:
    """Whether this is a dictionary of tensors by name. Few other entries may be among them."""
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        return False
    tensors = [value for value in content.values() if isinstance(value, torch.Tensor)]
    return 2 * len(tensors) > len(content) and any(tensor.ndim for tensor in tensors)


def pick_only(keys: list[str], path: Path) -> str:
    """The only key; UserError if there are several."""
    if len(keys) > 1:
        raise UserError(f"{path} holds several state dicts: {', '.join(keys)}. {ADVICE}")
    return keys[0]
