"""Loads state dicts into networks. Knows nothing of files."""

import re
from collections import Counter

import torch
from torch import nn

from training.errors import UserError
from training.networks.weight_files import StateDict

COMPILED = "_orig_mod."  # torch.compile puts this into the names
DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")  # in torchvision's files
PREFERRED_PREFIXES = ("model.", "module.", "net.", "network.")
SHOWN = 3  # names in a sentence


def load_into_network(network: nn.Module, state: StateDict, partly: bool = False) -> list[str]:
    """Load a state dict into a network and return the names of parameters that were not loaded.

    With `partly`, parameters that are missing in the state dict or have another shape keep their
    values. Auxiliary heads, which are used in training only, may be in the state dict alone.

    Raises:
        UserError: names or shapes differ, or with `partly` more than half of them do, or a tensor
            holds numbers that are not finite.
    """
    own = network.state_dict()
    state = match_names(state, own)
    missing = [n for n in own if n not in state and not n.endswith("num_batches_tracked")]
    reshaped = [n for n in own if n in state and state[n].shape != own[n].shape]
    extra = [n for n in state if n not in own and not n.lower().startswith("aux")]
    fresh = missing + reshaped
    if extra or (fresh and not partly):
        shapes = [f"{n} {tuple(state[n].shape)} instead of {tuple(own[n].shape)}" for n in reshaped]
        differences = (
            *describe_names(missing, "missing"),
            *describe_names(extra, "unexpected"),
            *describe_names(shapes, "of another shape"),
        )
        raise UserError(f"The weights do not match the network: {'; '.join(differences)}.")
    if len(fresh) > len(own) // 2:
        raise UserError(
            f"The weights match less than half of the network. {fresh[0]}, for example, differs."
        )
    loaded = {name: value for name, value in state.items() if name in own and name not in fresh}
    check_finite(loaded)
    own.update(loaded)  # `own` keeps the versions of its modules, which some of them ask for
    try:
        network.load_state_dict(own)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"The weights cannot be loaded: {str(error).splitlines()[0]}") from error
    return fresh


def match_names(state: StateDict, own: StateDict) -> StateDict:
    """The state dict without the prefixes that wrappers put before or into the network's names.

    Raises:
        UserError: it holds the network more than once.
    """
    state = {
        DENSENET_NAME.sub(r"\1\2", name.replace(COMPILED, "")): value
        for name, value in state.items()
    }
    found = Counter(
        name[: len(name) - len(end)] for name in state for end in list_endings(name) if end in own
    )
    most = max(found.values(), default=0)
    best = [prefix for prefix, count in found.items() if count == most]
    if not best or "" in best:
        return state
    chosen = next((prefix for prefix in PREFERRED_PREFIXES if prefix in best), best[0])
    if len(best) > 1 and chosen not in PREFERRED_PREFIXES:
        raise UserError(
            f"The weights hold the network {len(best)} times, under {', '.join(sorted(best))}. "
            "Save the state_dict() of one of them."
        )
    # What is outside the prefix is not the network's: weights of the loss, counters.
    return {n.removeprefix(chosen): v for n, v in state.items() if n.startswith(chosen)}


def list_endings(name: str) -> list[str]:
    """The name, and what is left of it without its first parts."""
    parts = name.split(".")
    return [".".join(parts[i:]) for i in range(len(parts))]


def describe_names(names: list[str], what: str) -> list[str]:
    """How many names there are, and the first of them; nothing if there are none."""
    if not names:
        return []
    more = ", …" if len(names) > SHOWN else ""
    return [f"{len(names)} {what} ({', '.join(names[:SHOWN])}{more})"]


def check_finite(state: StateDict) -> None:
    """Raise UserError if a tensor holds NaN or infinity, which training leaves when it diverges."""
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise UserError(
                f"The weights hold numbers that are not finite, the first in {name}. "
                "Give weights of an earlier epoch."
            )
