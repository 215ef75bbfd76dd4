"""How the output of a layer becomes a map (N, K, h, w), and a map the output again.

Convolutional layers output the map itself. Others put the channels last, or output tokens: one per
place, row by row, after some that belong to no place (class tokens, registers). A `MapView` in the
place of such a layer makes the map the output of a module, so all that follows sees maps only.
Knows nothing of how a layout is found.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

VIEW = "as_map"


@dataclass(frozen=True)
class MapLayout:
    """Which axes of a layer's output are the batch, the channels and the places of a map."""

    # The axes that are batch, channels, rows and columns, or batch, channels and tokens.
    order: tuple[int, ...] = (0, 1, 2, 3)
    grid: tuple[int, int] | None = None  # rows and columns of the tokens
    skipped: int = 0  # tokens before those of places

    def to_map(self, output: torch.Tensor) -> torch.Tensor:
        """The map (N, K, h, w) in an output."""
        ordered = output.permute(self.order)  # (N, K, h, w) or (N, K, L)
        if self.grid:
            places = ordered[:, :, self.skipped :]  # (N, K, h w)
            return places.reshape(*places.shape[:2], *self.grid)
        return ordered

    def to_output(self, a: torch.Tensor, output: torch.Tensor) -> torch.Tensor:
        """The output with the map `a` (N, K, h, w) in the place of its own."""
        ordered = a.flatten(2) if self.grid else a
        if self.skipped:
            others = output.permute(self.order)[:, :, : self.skipped]
            ordered = torch.cat([others, ordered], 2)  # (N, K, L)
        return ordered.permute([self.order.index(axis) for axis in range(len(self.order))])


class MapView(nn.Module):
    """A layer whose map is the output of its module `as_map`. What follows gets what it got."""

    def __init__(self, layer: nn.Module, layout: MapLayout) -> None:
        super().__init__()
        self.layer, self.layout = layer, layout
        self.as_map = nn.Identity()

    def forward(self, *arguments: Any, **options: Any) -> torch.Tensor:
        output: torch.Tensor = self.layer(*arguments, **options)
        return self.layout.to_output(self.as_map(self.layout.to_map(output)), output)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):
                raise
            # Networks read the sizes and weights of their layers.
            return getattr(super().__getattr__("layer"), name)


def put_view(network: nn.Module, layer: str, layout: MapLayout) -> str:
    """Make the map of a layer the output of a module; returns that module's name."""
    if layout == MapLayout():
        return layer
    network.set_submodule(layer, MapView(network.get_submodule(layer), layout))
    return f"{layer}.{VIEW}"


@contextmanager
def view_map(network: nn.Module, layer: str, layout: MapLayout) -> Iterator[str]:
    """Put the view while the block runs; yields the name of the module that outputs the map."""
    module = network.get_submodule(layer)
    try:
        yield put_view(network, layer, layout)
    finally:
        network.set_submodule(layer, module)


def get_layer_name(name: str) -> str:
    """The name of the layer whose map a module outputs."""
    return name.removesuffix(f".{VIEW}")
