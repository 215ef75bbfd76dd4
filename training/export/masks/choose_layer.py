"""Chooses the layer, the method or both, whose maps of masks are the most faithful.

Candidate layers are the last layer at each map size, or the one that is named. The criterion is
that of classifiers: insertion less deletion, of the mean probability over the explained pixels. Of
those within one standard error of the best, the earliest method of the smallest map is chosen,
since a gradient down to a smaller map costs no more.
"""

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.mask_folder import MaskSplit
from training.errors import UserError
from training.evaluate.masks.faithfulness import (
    find_largest,
    make_whole_regions,
    measure_map_faithfulness,
)
from training.export.masks.request import AUTO, MaskExportRequest
from training.gradcam.find_layout import find_maps
from training.gradcam.map_layout import view_map
from training.gradcam.masks.reference import (
    MASK_METHODS,
    MaskMethod,
    MaskQuestion,
    check_spread,
    explain_mask,
)
from training.gradcam.reference import find_layer, prepare_network
from training.graph.mask_graph import MaskOptions, export_plain_masks
from training.graph.session import open_mask_session
from training.imaging.preprocessing import Pixels

SCORED_PICTURES = 10
MIN_MAP_SIDE = 2  # cells


@dataclass(frozen=True)
class Candidate:
    """A layer and a method, with the mean score and its standard error."""

    layer: str
    method: MaskMethod
    size: tuple[int, int]
    score: float
    error: float


def choose_mask_options(request: MaskExportRequest) -> MaskOptions:
    """Layer and method of the request, with "auto" replaced by the most faithful.

    The table of candidates is passed to the request's `say`.
    """
    options = MaskOptions(
        request.layer, cast(MaskMethod, request.method), request.background, request.precision
    )
    if AUTO not in (request.layer, request.method):
        return options
    assert request.test is not None
    found = score_candidates(request, request.test)
    best = max(found, key=lambda c: c.score)
    equal = [c for c in found if c.score >= best.score - best.error]
    chosen = min(equal, key=lambda c: (c.size[0] * c.size[1], MASK_METHODS.index(c.method)))
    request.say(f"{'layer':32} {'method':13} {'map':>9} {'insertion - deletion':>21}")
    for c in found:
        mark = " (taken)" if c is chosen else ""
        size = f"{c.size[0]} x {c.size[1]}"
        request.say(f"{c.layer:32} {c.method:13} {size:>9} {c.score:13.3f} ± {c.error:.3f}{mark}")
    return replace(options, layer=chosen.layer, method=chosen.method)


def score_candidates(request: MaskExportRequest, test: MaskSplit) -> list[Candidate]:
    """The scores of all candidates on the same pictures."""
    prepare_network(request.model)
    rows = np.sort(np.random.default_rng(0).permutation(len(test))[:SCORED_PICTURES])
    pictures = np.asarray(test.pictures[rows])
    run = open_mask_session(export_plain_masks(request.model, torch.from_numpy(pictures[:2])))
    classes = len(request.info.labels)
    masks = request.model.predict(pictures).argmax(1)
    chosen = [find_largest(mask, classes, request.background) for mask in masks]
    methods = MASK_METHODS if request.method == AUTO else (cast(MaskMethod, request.method),)
    found = []
    for layer, size in list_mask_layers(request, pictures).items():
        for method in methods:
            cams = compute_cams(request, layer, method, pictures, [index for index, _ in chosen])
            scores = measure_map_faithfulness(run, pictures, cams, chosen).scores
            error = scores.std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else np.inf
            found.append(Candidate(layer, method, size, float(scores.mean()), float(error)))
    return found


def list_mask_layers(request: MaskExportRequest, pictures: Pixels) -> dict[str, tuple[int, int]]:
    """The candidate layers and the sizes of their maps, in execution order."""
    model, image = request.model, torch.from_numpy(pictures[:2])
    last: dict[tuple[int, int], str] = {}
    for name, (layout, sizes) in find_maps(model, model.network, image).items():
        rows, columns = layout.grid or sizes[1:]
        if request.layer not in (AUTO, name) or min(rows, columns) < MIN_MAP_SIDE:
            continue
        if request.layer == AUTO and name.count(".") > 1:
            continue
        with view_map(model.network, name, layout) as module:
            try:
                check_spread(model, find_layer(model.network, module), image)
            except UserError:
                continue
        last[rows, columns] = name
    if not last:
        raise UserError(
            "No layer of this network has a map that says more than the logits. Name one with "
            "--layer."
        )
    return {name: size for size, name in last.items()}


def compute_cams(
    request: MaskExportRequest,
    layer: str,
    method: MaskMethod,
    pictures: Pixels,
    classes: list[int],
) -> NDArray[np.float32]:
    """The maps (N, h, w) of each picture's class over its own pixels, in eager torch."""
    model = request.model
    regions = torch.from_numpy(make_whole_regions(len(pictures), pictures.shape[1:]))
    layout, _ = find_maps(model, model.network, torch.from_numpy(pictures[:2]))[layer]
    cams = []
    with view_map(model.network, layer, layout) as module:
        inside = find_layer(model.network, module)
        for i, index in enumerate(classes):
            part = slice(i, i + 1)
            target = torch.tensor([[index]])
            question = MaskQuestion(torch.from_numpy(pictures[part]), target, regions[part])
            found = explain_mask(model, question, inside, method, request.background)
            cams.append(found.cam[:, 0].numpy())
    return np.concatenate(cams)
