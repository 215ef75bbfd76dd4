"""Networks that a user's function returns: built, and freed of wrappers that hide their layers.

Knows nothing of weights.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from training.errors import UserError


def build_user_network(place: str, options: dict[str, Any]) -> nn.Module:
    """The network that `package.module:function` returns: (N, C, H, W) to logits (N, K).

    Raises:
        UserError: the function cannot be found or called, or returns no usable network.
    """
    module, _, function = place.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        build = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # the module is the user's program
        raise UserError(f"{place} cannot be imported: {type(error).__name__}: {error}.") from error
    else:
        built = call_user_function(place, build, options)
    finally:
        sys.path.remove(os.getcwd())
    if not isinstance(built, nn.Module):
        raise UserError(
            f"{place} must return a torch.nn.Module, it returned {type(built).__name__}."
        )
    return unwrap_network(place, built)


def call_user_function(place: str, build: Callable[..., Any], options: dict[str, Any]) -> Any:
    """What the user's function returns; an error in it is reported in one sentence."""
    try:
        inspect.signature(build).bind(**options)
    except TypeError as error:
        given = f"with the options {', '.join(options)}" if options else "without arguments"
        raise UserError(f"{place} is called {given}, but {error}.") from error
    try:
        return build(**options)
    except (Exception, SystemExit) as error:
        raise UserError(f"{place} raised {type(error).__name__}: {error}") from error


def unwrap_network(place: str, network: nn.Module) -> nn.Module:
    """The network in 32 bits, without torch.compile and DataParallel around it or its modules.

    Raises:
        UserError: a part of it is TorchScript, whose layers cannot be seen.
    """
    network = unwrap_module(network)
    while wrapped := [
        name
        for name, module in network.named_modules(remove_duplicate=False)
        if unwrap_module(module) is not module
    ]:
        network.set_submodule(wrapped[0], unwrap_module(network.get_submodule(wrapped[0])))
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            part = f"its module {name!r}" if name else "it"
            raise UserError(
                f"{place} returns a network whose layers cannot be seen: {part} is TorchScript. "
                "Return the network without torch.jit.script and torch.jit.trace."
            )
        if module._compiled_call_impl is not None:
            module._compiled_call_impl = None  # module.compile() set it
    torch.compiler.set_stance("force_eager")  # for compiled functions inside the network
    return network.float()


def unwrap_module(module: nn.Module) -> nn.Module:
    """The module inside wrappers that compute the same."""
    while True:
        if isinstance(module, torch._dynamo.OptimizedModule):
            module = module._orig_mod
        elif isinstance(module, nn.DataParallel):
            module = module.module
        else:
            return module
