"""Networks of every kind are exported exactly: padding, unfolding, channels last, tokens."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import MaxVit, VisionTransformer
from torchvision.models.swin_transformer import (
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlockV2,
)

from training.artifact.parity import check_parity
from training.errors import CheckError
from training.gradcam.reference import find_layer
from training.graph.compilation import compile_graph, compile_prediction_graph
from training.graph.session import open_session
from training.imaging.preprocessing import Input
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, get_default_layer

Tensor = torch.Tensor
SIZE, CLASSES = 32, 7


class Chain(nn.Module):
    """A convolution, which is the target layer, and steps that its gradient passes."""

    def __init__(self, *steps: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.Tanh())
        self.steps, self.head = nn.Sequential(*steps), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.steps(self.features(x)).mean((2, 3)).tanh())
        return logits


class ChannelsLast(nn.Module):
    """Its channels are last, and as many as there are rows."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.features = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.line, self.head = nn.Linear(8, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.stem(x).permute(0, 2, 3, 1))
        logits: Tensor = self.head(self.line(x).tanh().mean((1, 2)))
        return logits


class Mixer(nn.Module):
    """Tokens, mixed by a linear layer over places and one over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.features = nn.Conv2d(3, 12, 8, 8), nn.LayerNorm(12)
        self.places, self.head = nn.Linear(16, 16), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(self.stem(x).flatten(2).transpose(1, 2))
        x = x + F.gelu(self.places(x.transpose(1, 2))).transpose(1, 2)
        logits: Tensor = self.head(x.tanh().mean(1))
        return logits


class Unfolded(nn.Module):
    """A convolution by unfolding."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows = F.unfold(x, 2, stride=2).transpose(1, 2)  # (N, h w / 4, 32)
        found: Tensor = self.line(rows).transpose(1, 2).reshape(n, 8, h // 2, w // 2)
        return found


def conv(*arguments: int, **options: str) -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 8, *arguments, **options), nn.Tanh())  # type: ignore[arg-type]


class LastInMemory(nn.Module):
    """A norm over the channels, which leaves them last in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return found


class ChangedInPlace(nn.Module):
    """Adds to a part of a tensor in place, as GhostNet does."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x, x.sin()], 1)[:, 2:10]
        y += x.tanh()
        return y


class Shortcut(nn.Module):
    """Two ways of as many rows each, one of which begins with a pool, as in a ResNet-D."""

    def __init__(self) -> None:
        super().__init__()
        self.way, self.pool = conv(3, 2, 1), nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = (self.way(x) + self.pool(x)).relu()
        return found


class ReadAsAWhole(nn.Module):
    """Changes a part in place and reads the whole."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.sin()
        part = y[:, :4]
        part += x[:, 4:].tanh()
        return y


QUICK: dict[str, Callable[[], nn.Module]] = {
    "padding": lambda: Chain(nn.ZeroPad2d((1, 0, 2, 1)), conv(4, padding="same")),
    "channels last": ChannelsLast,
}
SLOW: dict[str, Callable[[], nn.Module]] = {
    "mixer": Mixer,
    "upsampling": lambda: Chain(
        *(conv(3), nn.Upsample(scale_factor=2), conv(3)),
        *(nn.Upsample(scale_factor=2, mode="bilinear"), conv(3)),
    ),
    "unfolding": lambda: Chain(Unfolded(), conv(3)),
    "group norm": lambda: Chain(conv(3), nn.GroupNorm(2, 8), conv(3, 2), nn.GroupNorm(4, 8)),
    "pool of channels last in memory": lambda: Chain(
        *(conv(3), LastInMemory(), nn.AdaptiveAvgPool2d(1), conv(1))
    ),
    "shortcut that begins with a pool": lambda: Chain(Shortcut(), conv(3)),
    "part changed in place": lambda: Chain(ChangedInPlace(), conv(3)),
    "adaptive pool": lambda: Chain(conv(3), nn.AdaptiveAvgPool2d(5), conv(1)),
    "counted pool": lambda: Chain(conv(3), nn.AvgPool2d(2, 2, 0, True, False), conv(1)),
    "local response norm": lambda: Chain(conv(3), nn.LocalResponseNorm(3), conv(3)),
    "mish": lambda: Chain(nn.Conv2d(8, 8, 3), nn.Mish(), conv(3)),
}
TRANSFORMERS: dict[str, Callable[[], nn.Module]] = {
    "swin": lambda: SwinTransformer([4, 4], 8, [1, 2], [2, 2], [2, 2], num_classes=CLASSES),
    "swin v2": lambda: SwinTransformer(
        *([4, 4], 8, [1, 2], [2, 2], [2, 2], 4.0, 0.0, 0.0, 0.0, CLASSES),
        block=SwinTransformerBlockV2,
        downsample_layer=PatchMergingV2,
    ),
    "maxvit": lambda: MaxVit((32, 32), 8, 2, [8, 16], [1, 1], 4, 0.0, num_classes=CLASSES),
}


def check(network: nn.Module, layer: str | None) -> None:
    """The graph passes the checks of an export, which cover batches and no targets."""
    model = Classifier(Input("RGB", SIZE, SIZE, SIZE), network).eval()
    pictures = generate_images(5, SIZE, SIZE, 3)
    layer = layer or get_default_layer(network)
    compiled = compile_graph(model, network, layer, pictures)
    plain = compile_prediction_graph(model, pictures)
    module = find_layer(network, compiled.plan.layer)
    figures = check_parity(compiled.proto, plain, model, module, pictures)
    assert figures["cam"] < 2e-5


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
)
def test_what_follows_the_layer_is_traced_for_any_batch(name: str) -> None:
    """Also for none, where onnxruntime's fused products and empty reshapes fail."""
    torch.manual_seed(0)
    check((QUICK | SLOW)[name](), "features")


@pytest.mark.slow
def test_a_part_that_is_changed_in_place_and_read_as_a_whole_is_refused() -> None:
    torch.manual_seed(0)
    with pytest.raises(CheckError, match="deviates"):
        check(Chain(ReadAsAWhole(), conv(3)), "features")


@pytest.mark.slow
@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_are_exact_at_their_default_layer(name: str) -> None:
    """Windows, shifted windows, and attention over a grid."""
    torch.manual_seed(0)
    check(TRANSFORMERS[name](), None)


def test_a_vision_transformers_map_is_that_of_pytorch_grad_cam() -> None:
    """With its `reshape_transform`, which drops the class token and makes tokens a grid."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    torch.manual_seed(0)
    network = VisionTransformer(SIZE, 8, 1, 2, 16, 16, num_classes=CLASSES)
    nn.init.normal_(network.heads.head.weight)
    model = Classifier(Input("RGB", SIZE, SIZE, SIZE), network).eval()
    pictures = generate_images(5, SIZE, SIZE, 3)
    original = copy.deepcopy(model).requires_grad_(True)
    layer = get_default_layer(network)
    compiled = compile_graph(model, network, layer, pictures)
    target = np.arange(5)[:, None] % CLASSES
    run = open_session(compiled.proto)
    cam = run(pictures, target)[2]

    def make_grid(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].reshape(len(tokens), 4, 4, 16).permute(0, 3, 1, 2)

    reference = GradCAM(
        original.network, [find_layer(original.network, layer)], reshape_transform=make_grid
    )
    x = original.preprocess(torch.from_numpy(pictures))
    reference(x, [ClassifierOutputTarget(int(c)) for c in target[:, 0]])
    held = reference.activations_and_grads
    a, gradient = (kept[0].detach() for kept in (held.activations, held.gradients))
    expected = (gradient.mean((2, 3), keepdim=True) * a).sum(1).numpy()
    assert cam.shape == (5, 1, 4, 4)
    assert np.abs(cam[:, 0] - expected).max() <= 1e-5 * np.abs(expected).max()
    assert run(pictures, target[:, :0])[2].shape == (5, 0, 4, 4)
