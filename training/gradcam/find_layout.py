"""Finds out by experiment which axes of a layer's output are the places of a map.

The network runs on more pictures, on higher and on wider ones: the sizes that change tell what the
axes are. If it takes one size only, the places must be as many as those of an earlier layer, or
divide the picture into squares. What stays unclear is rejected. Knows nothing of gradients.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from training.errors import UserError
from training.gradcam.map_layout import VIEW, MapLayout, MapView, put_view
from training.gradcam.reference import attach_hook, find_layer

Sizes = tuple[int, ...]

# These treat axis 1 as channels, whatever they get.
CHANNELS_FIRST = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.GroupNorm,
)
CHANNELS_LAST = (nn.LayerNorm, nn.Linear)
MAX_SKIPPED = 16  # tokens that belong to no place


class UnclearLayoutError(UserError):
    """Which axes of a layer's output are the places of a map cannot be told."""

    def __init__(self, shape: Sizes, reason: str) -> None:
        super().__init__(
            f"The target layer's output has shape {shape}, and {reason}. Choose a layer that "
            "outputs a map (N, K, h, w) or (N, h, w, K), or one token per place (N, L, K)."
        )


def expose_map(model: nn.Module, network: nn.Module, layer: str, image: torch.Tensor) -> str:
    """Let a module of the network output the layer's map (N, K, h, w); returns its name.

    If the layer does not, the network is changed: a view of its output takes its place.

    Raises:
        UserError: there is no such layer, or which of its axes are places cannot be told.
    """
    module = find_layer(network, layer)
    if isinstance(module, MapView):
        return f"{layer}.{VIEW}"
    if isinstance(module, CHANNELS_FIRST):
        return layer
    return put_view(network, layer, Observation.of(model, network, image).find_layout(layer))


def find_maps(
    model: nn.Module, network: nn.Module, image: torch.Tensor
) -> dict[str, tuple[MapLayout, tuple[int, int, int]]]:
    """Every layer that runs once and outputs a map larger than 1x1: its layout and (K, h, w)."""
    observed = Observation.of(model, network, image)
    found = {}
    for name, shape in observed.two.items():
        if name in observed.repeated:
            continue
        try:
            layout = observed.find_layout(name)
        except UnclearLayoutError:
            continue
        sizes = tuple(shape[axis] for axis in layout.order[1:])
        rows, columns = layout.grid or sizes[1:]
        if (rows, columns) != (1, 1):
            found[name] = layout, (sizes[0], rows, columns)
    return found


@dataclass(frozen=True)
class Observation:
    """The shapes of all outputs of a network's layers, and how they change with the pictures."""

    modules: dict[str, nn.Module]
    height: int
    width: int
    two: dict[str, Sizes]  # of two pictures; in execution order
    three: dict[str, Sizes]  # of three pictures
    higher: dict[str, Sizes]  # of two pictures of twice the height
    wider: dict[str, Sizes]  # of two pictures of twice the width
    repeated: frozenset[str]  # layers that run more than once

    @classmethod
    def of(cls, model: nn.Module, network: nn.Module, image: torch.Tensor) -> "Observation":
        """Run the model on pictures like these (N, H, W, C)."""
        height, width = image.shape[1:3]
        one = image[:1].float()
        runs = [
            record_shapes(model, network, one.repeat(n, rows, columns, 1))
            for n, rows, columns in ((2, 1, 1), (3, 1, 1), (2, 2, 1), (2, 1, 2))
        ]
        shapes = [{name: found[0] for name, found in run.items()} for run in runs]
        two, three, higher, wider = shapes
        repeated = frozenset(name for name, found in runs[0].items() if len(found) > 1)
        modules = dict(network.named_modules())
        return cls(modules, height, width, two, three, higher, wider, repeated)

    def find_layout(self, layer: str) -> MapLayout:
        """The layout of a layer's output.

        Raises:
            UserError: which of its axes are places cannot be told.
        """
        if layer not in self.two:
            raise UserError(
                "The target layer does not run, or its output is no tensor. "
                "Choose a layer that runs once and outputs a tensor."
            )
        shape = self.two[layer]
        if len(shape) not in (3, 4):
            raise UnclearLayoutError(shape, "that is neither a map nor tokens")
        axes = self.find_axes(layer)
        if axes is not None and len(shape) == 4:
            return MapLayout(axes)
        if axes is not None:
            found = self.find_grid(layer, axes[-1])
            candidates = [MapLayout(axes, *found)] if found else []
        elif len(shape) == 4:
            candidates = self.guess_maps(layer)
        else:
            candidates = self.guess_tokens(layer)
        if len(candidates) != 1:
            raise UnclearLayoutError(shape, "which of its axes are places cannot be told from that")
        return candidates[0]

    def find_batch(self, layer: str) -> int:
        """The axis of the pictures."""
        two, three = self.two[layer], self.three.get(layer, ())
        changed = find_changes(two, three)
        if len(changed) != 1 or (two[changed[0]], three[changed[0]]) != (2, 3):
            raise UnclearLayoutError(two, "for 2 pictures, no axis of it stands for the pictures")
        return changed[0]

    def find_axes(self, layer: str) -> Sizes | None:
        """The axes by what changes with the picture: batch, channels, rows and columns or tokens.

        None if nothing changes, or if the layer does not run on other sizes.
        """
        shape, batch = self.two[layer], self.find_batch(layer)
        if len(shape) == 4 and isinstance(self.modules[layer], CHANNELS_FIRST):
            return (0, 1, 2, 3)
        if layer not in self.higher or layer not in self.wider:
            return None
        rows, columns = (find_changes(shape, run[layer]) for run in (self.higher, self.wider))
        if not rows and not columns:
            return None
        rest = [axis for axis in range(len(shape)) if axis not in (batch, *rows, *columns)]
        if len(rows) == len(columns) == len(rest) == 1 and (rows == columns) == (len(shape) == 3):
            return (batch, *rest, *dict.fromkeys(rows + columns))
        raise UnclearLayoutError(
            shape, "other axes than two of places, or one of tokens, change with the picture's size"
        )

    @cached_property
    def known(self) -> dict[str, tuple[tuple[int, int], Sizes]]:
        """Rows and columns of the maps that are known for certain, and their axes of places.

        A map may be one of tokens: as many as there are squares in the picture at every size.
        """
        found: dict[str, tuple[tuple[int, int], Sizes]] = {}
        for name, shape in self.two.items():
            try:
                axes = self.find_axes(name) if len(shape) in (3, 4) else None
            except UnclearLayoutError:
                continue
            if axes is None:
                continue
            if len(axes) == 4:
                found[name] = (shape[axes[2]], shape[axes[3]]), axes[2:]
            elif (grid := self.divide_picture(name, axes[2])) and grid[1] == 0:
                found[name] = grid[0], axes[2:]
        return found

    def find_grid(self, layer: str, axis: int) -> tuple[tuple[int, int], int] | None:
        """Rows and columns of the tokens on an axis, and how many tokens come before them.

        The grid is that of an earlier map, at every size of the pictures. Else it divides the
        picture into squares.
        """
        runs = [run for run in (self.two, self.higher, self.wider) if layer in run]
        for name, (grid, places) in reversed(self.list_earlier(layer)):
            if not all(name in run for run in runs):
                continue
            skipped = {
                run[layer][axis] - math.prod(run[name][place] for place in places) for run in runs
            }
            if len(skipped) == 1 and 0 <= min(skipped) <= MAX_SKIPPED:
                return grid, skipped.pop()
        return self.divide_picture(layer, axis)

    def divide_picture(self, layer: str, axis: int) -> tuple[tuple[int, int], int] | None:
        """The same for tokens of squares: twice the height or the width has twice as many."""
        count, *more = (
            run[layer][axis] for run in (self.two, self.higher, self.wider) if layer in run
        )
        skipped = {2 * count - others for others in more} or {0}
        if len(skipped) > 1 or min(skipped) < 0:
            return None
        grid = find_squares(count - min(skipped), self.height, self.width)
        return (grid, skipped.pop()) if grid else None

    def list_earlier(self, layer: str) -> list[tuple[str, tuple[tuple[int, int], Sizes]]]:
        """The maps known for certain that come before a layer."""
        order = list(self.two)
        before = set(order[: order.index(layer)])
        return [(name, found) for name, found in self.known.items() if name in before]

    def guess_maps(self, layer: str) -> list[MapLayout]:
        """The layouts that are possible for an output of four sizes that never change."""
        shape, batch = self.two[layer], self.find_batch(layer)
        first, middle, last = (axis for axis in range(4) if axis != batch)
        known = {grid for _, (grid, _) in self.list_earlier(layer)}
        moves = layer in self.higher and layer in self.wider

        def is_grid(rows: int, columns: int) -> bool:
            if (rows, columns) in known:
                return True
            if any(0 <= rows - h * w <= MAX_SKIPPED for h, w in known - {(1, 1)}):
                return False  # attention from places to places
            squares = find_squares(rows * columns, self.height, self.width)
            return squares == (rows, columns) or (moves and rows == columns)  # an adaptive pool

        return [
            MapLayout((batch, channels, rows, columns))
            for channels, rows, columns in ((first, middle, last), (last, first, middle))
            if is_grid(shape[rows], shape[columns])
        ]

    def guess_tokens(self, layer: str) -> list[MapLayout]:
        """The layouts that are possible for tokens whose number never changes."""
        batch = self.find_batch(layer)
        first, last = (axis for axis in range(3) if axis != batch)
        pairs = [(last, first), (first, last)]  # channels, tokens
        if has_channels_last(self.modules[layer], self.two[layer][-1]):
            pairs = pairs[:1]
        found = [(pair, self.find_grid(layer, pair[1])) for pair in pairs]
        return [MapLayout((batch, *pair), *known) for pair, known in found if known]


def record_shapes(
    model: nn.Module, network: nn.Module, image: torch.Tensor
) -> dict[str, list[Sizes]]:
    """The shapes of the outputs of all layers that run on these pictures, in execution order."""
    shapes: dict[str, list[Sizes]] = {}
    with ExitStack() as stack, torch.no_grad():
        for name, module in network.named_modules():
            if name:

                def note(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                    if isinstance(output, torch.Tensor):
                        shapes.setdefault(name, []).append(tuple(output.shape))

                stack.enter_context(attach_hook(module, note))
        try:
            model(image)
        except Exception:  # networks reject sizes in many ways; what ran before has told its shape
            return shapes
    return shapes


def has_channels_last(layer: nn.Module, size: int) -> bool:
    """Whether the last axis of a layer's output, of this size, is that of the channels."""
    norms = [part for part in layer.modules() if isinstance(part, nn.LayerNorm)]
    return isinstance(layer, CHANNELS_LAST) or any(n.normalized_shape == (size,) for n in norms)


def find_changes(before: Sizes, after: Sizes) -> list[int]:
    """The axes whose sizes differ; none if the numbers of axes do."""
    if len(before) != len(after):
        return []
    return [i for i, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]


def find_squares(places: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of squares of whole pixels that divide a picture into so many places."""
    side = round((height * width / max(places, 1)) ** 0.5)
    exact = side > 0 and height % side == width % side == 0
    grid = (height // side, width // side) if exact else (0, 0)
    return grid if grid[0] * grid[1] == places else None
