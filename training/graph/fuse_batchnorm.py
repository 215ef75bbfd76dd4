"""Fuses batch-norms into the convolutions before them, so that the stored weights are those used.

Knows nothing of ONNX. Pairs are found by running the network once.
"""

from contextlib import ExitStack
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from training.gradcam.reference import attach_hook


@torch.no_grad()
def fuse_batchnorms(model: nn.Module, image: torch.Tensor, keep: nn.Module) -> None:
    """Fuse in place where a convolution feeds only a batch-norm. `keep` is never changed."""
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
            model.set_submodule(conv, before)  # its output is used elsewhere too
            model.set_submodule(norm, after)


def find_fusible_pairs(model: nn.Module, image: torch.Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch-norms that take their output, each run once."""
    calls: dict[str, int] = {}
    outputs: dict[int, tuple[str, torch.Tensor]] = {}
    pairs: list[tuple[str, str]] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):

                def record_call(
                    m: nn.Module, inputs: Any, output: torch.Tensor, name: str = name
                ) -> None:
                    calls[name] = calls.get(name, 0) + 1
                    if isinstance(m, nn.Conv2d):
                        outputs[id(output)] = name, output
                    elif id(inputs[0]) in outputs:
                        pairs.append((outputs[id(inputs[0])][0], name))

                stack.enter_context(attach_hook(module, record_call))
        model(image)
    return [pair for pair in pairs if calls[pair[0]] == calls[pair[1]] == 1]
