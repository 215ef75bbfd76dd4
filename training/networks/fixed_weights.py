"""Weights that a network computes anew in each pass, fixed at the values that they have.

Weight norm, spectral norm, pruning and other parametrisations are for training. Knows nothing of
what the network computes.
"""

from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm


def fix_weights(network: nn.Module) -> None:
    """Make computed weights plain parameters, in place. In evaluation mode this is exact."""
    for module in network.modules():
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name)
        names = {*dict(module.named_parameters(recurse=False))} | {
            *dict(module.named_buffers(recurse=False))
        }
        for name in names:
            stem = name.rpartition("_")[0]
            if {f"{stem}_g", f"{stem}_v"} <= names and name.endswith("_g"):
                remove_weight_norm(module, stem)
            elif {f"{stem}_orig", f"{stem}_u"} <= names and name.endswith("_orig"):
                remove_spectral_norm(module, stem)
            elif {f"{stem}_orig", f"{stem}_mask"} <= names and name.endswith("_orig"):
                prune.remove(module, stem)  # type: ignore[no-untyped-call]
