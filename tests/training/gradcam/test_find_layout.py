"""Which axes of a layer's output are places is found by experiment, or the layer is rejected."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import SwinTransformer

from training.errors import UserError
from training.gradcam.find_layout import Observation, expose_map
from training.gradcam.map_layout import MapLayout, get_layer_name
from training.gradcam.reference import compute_gradcam, find_layer
from training.gradcam.target_layers import list_target_layers
from training.imaging.preprocessing import Input
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, get_default_layer

Tensor = torch.Tensor
HIGH, WIDE = 24, 32


class Step(nn.Module):
    """A layer that does what a function does."""

    def __init__(self, act: Callable[..., Any]) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Any:
        return self.act(x)


class Turned(nn.Module):
    """A convolution whose map leaves it with its axes in another order."""

    def __init__(self, order: tuple[int, ...], channels: int = 6) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 4, 4)
        self.turn = Step(lambda x: x.permute(order))
        self.act = nn.Tanh()
        self.back = Step(lambda x: x.permute([order.index(axis) for axis in range(4)]))
        self.after, self.head = nn.Conv2d(channels, 5, 3), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.after(self.back(self.act(self.turn(self.conv(x)))))
        logits: Tensor = self.head(x.relu().mean((2, 3)))
        return logits


class Tokens(nn.Module):
    """Registers and one token per place; with `fixed`, for one size of pictures only."""

    def __init__(self, registers: int, fixed: bool = False, linear: bool = False) -> None:
        super().__init__()
        self.linear = linear
        self.conv, self.unfold = nn.Conv2d(3, 10, 8, 8), nn.Unfold(8, stride=8)
        self.line = nn.Linear(3 * 64, 10)
        self.extra = nn.Parameter(torch.randn(1, registers, 10))
        self.place = nn.Parameter(torch.randn(1, registers + 12, 10) if fixed else torch.zeros(1))
        self.norm, self.mix = nn.LayerNorm(10), nn.Linear(10, 10)
        self.scores = Step(lambda x: (x[:, None] @ x[:, None].mT).softmax(-1))
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        # (N, L, 10)
        x = self.line(self.unfold(x).mT) if self.linear else self.conv(x).flatten(2).mT
        x = torch.cat([self.extra.expand(len(x), -1, -1), x], 1) + self.place
        x = self.norm(x)
        x = self.mix(self.scores(x)[:, 0] @ x)
        logits: Tensor = self.head(x.tanh().mean(1))
        return logits


def make(network: nn.Module, height: int = HIGH, width: int = WIDE) -> Classifier:
    torch.manual_seed(0)
    return Classifier(Input("RGB", height, width, None, crop=None), network).eval()


def show(height: int = HIGH, width: int = WIDE) -> Tensor:
    return torch.from_numpy(generate_images(4, height, width, 3))


def find(model: Classifier, layer: str, image: Tensor) -> MapLayout:
    return Observation.of(model, model.network, image).find_layout(layer)


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (0, 1, 3, 2), (0, 3, 2, 1), (1, 0, 2, 3)])
def test_the_map_is_that_of_the_convolution_whatever_the_order_of_axes(
    order: tuple[int, ...],
) -> None:
    """Channels last, places turned, or pictures second: the same map comes out, upright."""
    torch.manual_seed(0)
    model = make(Turned(order))
    image, target = show(), torch.tensor([[0, 1]] * 4)
    with torch.no_grad():
        before = model(image)
    expected = compute_gradcam(model, image, target, find_layer(model.network, "conv")).cam
    name = expose_map(model, model.network, "turn", image)
    found = compute_gradcam(model, image, target, find_layer(model.network, name))
    assert torch.equal(found.cam, expected)
    assert found.cam.shape == (4, 2, HIGH // 4, WIDE // 4)
    assert torch.equal(found.logits, before)
    assert get_layer_name(name) == "turn"
    assert expose_map(model, model.network, "turn", image) == name  # there is one view only


def test_a_map_with_as_many_channels_as_rows_is_told_by_the_pictures_size() -> None:
    """The sizes alone would not tell (N, 6, 6, 8) from (N, 8, 6, 6)."""
    assert find(make(Turned((0, 2, 3, 1), 6)), "act", show(24, 24)).order == (0, 3, 1, 2)
    assert find(make(Turned((0, 1, 2, 3), 6)), "act", show(24, 24)) == MapLayout()


@pytest.mark.parametrize(
    ("registers", "fixed", "linear"),
    [(0, False, False), (3, False, False), (1, True, False), (5, True, True), (0, True, True)],
)
@pytest.mark.parametrize("layer", ["norm", "mix"])
def test_tokens_become_a_grid_without_those_of_no_place(
    layer: str, registers: int, fixed: bool, linear: bool
) -> None:
    """Also where the network takes one size only, and where its patches are no convolution."""
    found = find(make(Tokens(registers, fixed, linear)), layer, show())
    assert found == MapLayout((0, 2, 1), (3, 4), registers)


def test_tokens_have_the_gradient_and_the_map_of_their_definition() -> None:
    """alpha is the mean over places of dy/dA; registers have no part in it."""
    torch.manual_seed(0)
    model = make(Tokens(2)).double()
    image, target = show(), torch.zeros(4, 1, dtype=torch.int64)
    held: list[Tensor] = []

    def keep(_: nn.Module, __: object, output: Tensor) -> Tensor:
        held.append(output.detach().requires_grad_())
        return held[0]

    hook = model.network.get_submodule("norm").register_forward_hook(keep)
    y = model(image)[:, 0].sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(y, held[0])
    expected = (gradient[:, 2:].mean(1, keepdim=True) * held[0][:, 2:]).sum(2).reshape(4, 1, 3, 4)
    name = expose_map(model, model.network, "norm", image)
    found = compute_gradcam(model, image, target, find_layer(model.network, name)).cam
    assert torch.allclose(found, expected.detach(), atol=1e-12)


def test_transformers_have_a_layer_by_default() -> None:
    """A ViT takes one size only, a Swin puts its channels last."""
    vit = make(VisionTransformer(32, 8, 2, 2, 16, 16, num_classes=3), 32, 32)
    layer = get_default_layer(vit.network)
    assert layer == "encoder.layers.encoder_layer_1.ln_1"
    assert find(vit, layer, show(32, 32)) == MapLayout((0, 2, 1), (4, 4), 1)
    swin = make(SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=3), 32, 32)
    layer = get_default_layer(swin.network)
    assert layer == "norm"
    assert find(swin, layer, show(32, 32)) == MapLayout((0, 3, 1, 2))


@pytest.mark.parametrize(
    ("network", "layer", "sentence"),
    [
        (Tokens(0), "scores", r"shape \(2, 1, 12, 12\), and other axes than two of places"),
        (Tokens(1, True), "scores", r"shape \(2, 1, 13, 13\), and which of its axes are places"),
        (Turned((0, 1, 2, 3)), "head", r"shape \(2, 3\), and that is neither a map nor tokens"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 8, 8), Step(lambda x: x.reshape(-1, 4, 3, 2))),
            "1",
            "no axis of it stands for the pictures",
        ),
        (nn.Sequential(Step(lambda x: x.unbind(1)), Step(torch.stack)), "0", "output is no tensor"),
    ],
)
def test_a_layer_without_clear_places_is_rejected(
    network: nn.Module, layer: str, sentence: str
) -> None:
    """Attention between places, windows as pictures, tuples: the sentence says what is wrong."""
    with pytest.raises(UserError, match=sentence):
        find(make(network), layer, show())


def test_layers_of_tokens_are_listed_with_their_grids() -> None:
    """The network is the same afterwards."""
    model = make(Tokens(2))
    names = [name for name, _ in model.named_modules()]
    state = copy.deepcopy(model.state_dict())
    found = {row.name: row for row in list_target_layers(model, model.network, show())}
    assert (found["norm"].channels, found["norm"].height, found["norm"].width) == (10, 3, 4)
    assert "scores" not in found
    assert [name for name, _ in model.named_modules()] == names
    assert state.keys() == model.state_dict().keys()
