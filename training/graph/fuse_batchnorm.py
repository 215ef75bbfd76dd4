"""Batch-norms folded into the convolutions before them, so that what is stored is what runs.

Knows nothing of ONNX; a pair is found by running the network once.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.gradcam.reference import attach_hook


@torch.no_grad()
def fuse_batchnorms(model: nn.Module, image: torch.Tensor, keep: nn.Module) -> None:
    """Fold in place wherever a convolution feeds a batch-norm alone; `keep`'s own output stays."""
    expected = model.eval()(image)
    for conv, norm in find_fusible_pairs(model, image):
        if model.get_submodule(conv) is keep:
            continue
        before, after = model.get_submodule(conv), model.get_submodule(norm)
        assert isinstance(before, nn.Conv2d)
        assert isinstance(after, nn.BatchNorm2d)
        model.set_submodule(conv, fuse_conv_bn_eval(before, after))
        model.set_submodule(norm, nn.Identity())
        if not torch.allclose(model(image), expected, rtol=1e-3, atol=1e-4):
            model.set_submodule(conv, before)  # its output goes elsewhere, too
            model.set_submodule(norm, after)


def find_fusible_pairs(model: nn.Module, image: torch.Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch-norms that take what they put out, each run once."""
    calls: dict[str, int] = {}
    made: dict[int, tuple[str, torch.Tensor]] = {}
    found: list[tuple[str, str]] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):

                def note(m: nn.Module, inputs: Any, output: torch.Tensor, name: str = name) -> None:
                    calls[name] = calls.get(name, 0) + 1
                    if isinstance(m, nn.Conv2d):
                        made[id(output)] = name, output
                    elif id(inputs[0]) in made:
                        found.append((made[id(inputs[0])][0], name))

                stack.enter_context(attach_hook(module, note))
        model(image)
    return [pair for pair in found if calls[pair[0]] == calls[pair[1]] == 1]
