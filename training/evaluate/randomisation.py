"""Does a map depend on the learned weights? The cascading randomisation test.

From Adebayo et al. 2018, "Sanity Checks for Saliency Maps": weights are randomised layer by layer,
from the top down. A map that does not change shows the picture and not the network. The weights of
a layer are permuted, which keeps their distribution. Computed in torch, with the network that the
exported file was checked against. Knows nothing of files.
"""

import copy
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import nn

from training.gradcam.heatmap import render_heatmap
from training.gradcam.reference import Method, attach_hook, compute_gradcam, find_layer

MAX_STEPS = 8  # layers at which maps are compared, at most
MAX_RANK_CORRELATION = 0.5  # at the end of the cascade

Explainer = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]  # to cam (N, h, w)


def measure_randomisation(
    model: nn.Module,
    explain: Explainer,
    image: torch.Tensor,  # (N, H, W, C) uint8
    target: torch.Tensor,  # (N, 1): class indices, kept for all weights
    seed: int = 0,
) -> dict[str, Any]:
    """Compare the maps with the first ones while more and more layers are randomised.

    `rank` is the mean absolute Spearman correlation of cam; absolute, because a map whose sign
    flips still shows the same structure. `ssim` is the structural similarity of the heatmaps.
    `others` is the rank correlation between maps of different pictures, as a baseline. It is None
    for a single picture; both correlations are None if all maps are constant.
    """
    model = copy.deepcopy(model).eval()
    rng = torch.Generator().manual_seed(seed)
    names = list_layers_in_order(model, image)[::-1]
    points = {round(x) for x in np.linspace(1, len(names), min(MAX_STEPS, len(names)))}
    first = explain(model, image, target)  # (N, h, w)
    steps = []
    for count, name in enumerate(names, 1):
        shuffle_weights(model.get_submodule(name), rng)
        if count in points:
            now = explain(model, image, target)
            steps.append(
                {
                    "layer": name.removeprefix("network."),
                    "rank": compute_rank_correlation(first, now),
                    "ssim": compute_similarity(first, now, (image.shape[1], image.shape[2])),
                }
            )
    return {
        "pictures": len(image),
        "others": compute_rank_correlation(first, first.roll(1, 0)) if len(image) > 1 else None,
        "steps": steps,
    }


def find_randomisation_doubts(figures: dict[str, Any]) -> list[str]:
    """Whether the map survives the randomisation of the whole network."""
    last = figures["steps"][-1]["rank"]
    if last is None:
        return ["all maps are constant, so shuffled weights could not be tried"]
    if last < MAX_RANK_CORRELATION:
        return []
    return [f"the map stays much as it was when every weight is shuffled (rank {last:.2f})"]


def make_gradcam_explainer(layer: str, method: Method = "gradcam") -> Explainer:
    """An explainer that computes Grad-CAM, or another method, at a layer of a classifier."""

    def explain(model: nn.Module, image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        inside = find_layer(model.get_submodule("network"), layer)
        return compute_gradcam(model, image, target, inside, method).cam[:, 0]

    return explain


@torch.no_grad()
def list_layers_in_order(model: nn.Module, image: torch.Tensor) -> list[str]:
    """Names of the layers with parameters of their own, in execution order."""
    order: list[str] = []
    with ExitStack() as stack:
        for name, module in model.named_modules():
            if list(module.parameters(recurse=False)):

                def record_order(_: nn.Module, __: Any, ___: Any, name: str = name) -> None:
                    if name not in order:
                        order.append(name)

                stack.enter_context(attach_hook(module, record_order))
        model(image[:1])
    return order


@torch.no_grad()
def shuffle_weights(module: nn.Module, rng: torch.Generator) -> None:
    """Permute the weights in place. The channels of a norm keep their statistics."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        held = [*module.parameters(recurse=False), module.running_mean, module.running_var]
        places = torch.randperm(module.num_features, generator=rng)
        for values in held:
            if values is not None:
                values.copy_(values[places].clone())
        return
    for weight in module.parameters(recurse=False):
        places = torch.randperm(weight.numel(), generator=rng)
        weight.copy_(weight.flatten()[places].view_as(weight))


def compute_rank_correlation(before: torch.Tensor, now: torch.Tensor) -> float | None:
    """The mean |Spearman correlation| of maps (N, h, w).

    A map that has become constant counts as 0: nothing of it is left. Where it was constant before,
    nothing can be compared, so it is left out. None if that leaves no map.
    """
    from torchmetrics.functional import spearman_corrcoef

    a, b = (maps.flatten(1).double() for maps in (before, now))
    each = [
        abs(float(spearman_corrcoef(x, y))) if y.std() > 0 else 0.0
        for x, y in zip(a, b, strict=True)
        if x.std() > 0
    ]
    return round(float(np.mean(each)), 3) if each else None


def compute_similarity(before: torch.Tensor, now: torch.Tensor, size: tuple[int, int]) -> float:
    """The mean structural similarity of the heatmaps, at the picture's size."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    a, b = (
        torch.from_numpy(np.stack([render_heatmap(cam, size) for cam in maps.numpy()]))[:, None]
        for maps in (before, now)
    )
    found = structural_similarity_index_measure(a.float(), b.float(), data_range=1.0)
    assert isinstance(found, torch.Tensor)
    return round(float(found), 3)
