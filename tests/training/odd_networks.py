"""Networks as people have them, for tests of `import`: each function builds one."""

from collections import OrderedDict, namedtuple
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import prune
from torchvision.models import VisionTransformer
from torchvision.ops import DeformConv2d

Tensor = torch.Tensor
Answer = namedtuple("Answer", "logits features")


class Net(nn.Module):
    """Features, a mean over positions, and a linear head; the classes below change one step."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, outputs)

    def extract(self, x: Tensor) -> Tensor:
        found: Tensor = self.features(x)
        return found

    def pool(self, x: Tensor) -> Tensor:
        return self.extract(x).mean((2, 3))

    def answer(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.pool(x))
        return logits

    def forward(self, x: Tensor) -> Any:
        return self.answer(x)


def plain() -> nn.Module:
    return Net()


def squeezed() -> nn.Module:
    class Squeezed(Net):
        def forward(self, x: Tensor) -> Any:
            return self.answer(x).squeeze()

    return Squeezed()


def map_of_logits() -> nn.Module:
    class Map(Net):
        def forward(self, x: Tensor) -> Any:
            return self.extract(x)

    return Map()


def returns_tuple() -> nn.Module:
    class Pair(Net):
        def forward(self, x: Tensor) -> Any:
            return self.answer(x), x

    return Pair()


def returns_named_tuple() -> nn.Module:
    class Named(Net):
        def forward(self, x: Tensor) -> Any:
            return Answer(self.answer(x), x)

    return Named()


def returns_dictionary() -> nn.Module:
    class Entries(Net):
        def forward(self, x: Tensor) -> Any:
            return {"logits": self.answer(x)}

    return Entries()


def returns_object() -> nn.Module:
    class Holder(Net):
        def forward(self, x: Tensor) -> Any:
            return SimpleNamespace(logits=self.answer(x))

    return Holder()


def ends_with_softmax_function() -> nn.Module:
    class Shares(Net):
        def forward(self, x: Tensor) -> Any:
            return self.answer(x).softmax(1)

    return Shares()


def dropout_left_on() -> nn.Module:
    class Dropping(Net):
        def pool(self, x: Tensor) -> Tensor:
            return F.dropout(super().pool(x), 0.5)

    return Dropping()


def adds_noise() -> nn.Module:
    class Noisy(Net):
        def pool(self, x: Tensor) -> Tensor:
            pooled = super().pool(x)
            return pooled + torch.randn_like(pooled)

    return Noisy()


def counts_its_calls() -> nn.Module:
    class Counting(Net):
        calls = 0

        def pool(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().pool(x) * self.calls

    return Counting()


def norm_of_the_batch() -> nn.Module:
    network = Net()
    network.features[1] = nn.BatchNorm2d(8, track_running_stats=False)
    return network


def scaled_by_the_batch() -> nn.Module:
    class Scaled(Net):
        def pool(self, x: Tensor) -> Tensor:
            pooled = super().pool(x)
            return pooled / pooled.max()

    return Scaled()


def scripted() -> nn.Module:
    network: nn.Module = torch.jit.script(nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU()))
    return network


def scripted_part() -> nn.Module:
    network = Net()
    network.features[2] = scripted()
    return network


def two_inputs() -> nn.Module:
    class Two(Net):
        def forward(self, x: Tensor, size: Tensor) -> Any:  # type: ignore[override]
            return self.answer(x) * size

    return Two()


def vision_transformer() -> nn.Module:
    network: nn.Module = VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=3)
    return network


def raises() -> nn.Module:
    raise FileNotFoundError("no such file: backbone.pth")


def ends_the_program() -> nn.Module:
    raise SystemExit("usage: train.py")


def takes_an_argument(classes: int) -> nn.Module:
    return Net(classes)


def detached() -> nn.Module:
    class Detached(Net):
        def pool(self, x: Tensor) -> Tensor:
            return super().pool(x).detach()

    return Detached()


def without_gradients() -> nn.Module:
    class Frozen(Net):
        @torch.no_grad()
        def forward(self, x: Tensor) -> Any:
            return self.answer(x)

    return Frozen()


def casts_to_float() -> nn.Module:
    class Casting(Net):
        def extract(self, x: Tensor) -> Tensor:
            return super().extract(x.float())

    return Casting()


class Swish(torch.autograd.Function):
    """x sigmoid(x), with a gradient of its own as before torch had SiLU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x * x.sigmoid()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        share = x.sigmoid()
        changed: Tensor = gradient * share * (1 + x * (1 - share))
        return changed


def own_gradient() -> nn.Module:
    class Own(Net):
        def __init__(self) -> None:
            super().__init__()
            self.middle = nn.Linear(8, 8)

        def pool(self, x: Tensor) -> Tensor:
            pooled: Tensor = Swish.apply(self.middle(super().pool(x)))
            return pooled

    return Own()


class Deformed(Net):
    """A deformable convolution before or after the features."""

    def __init__(self, channels: int, before: bool) -> None:
        super().__init__()
        self.before = before
        self.offset = nn.Conv2d(channels, 18, 3, padding=1)
        self.deformed = DeformConv2d(channels, channels, 3, padding=1)

    def extract(self, x: Tensor) -> Tensor:
        found: Tensor = self.deformed(x, self.offset(x)) if self.before else x
        return super().extract(found)

    def pool(self, x: Tensor) -> Tensor:
        a = self.extract(x)
        found: Tensor = a if self.before else self.deformed(a, self.offset(a))
        return found.relu().mean((2, 3))


def deformable_before() -> nn.Module:
    return Deformed(3, before=True)


def deformable_after() -> nn.Module:
    return Deformed(8, before=False)


def wrapped() -> nn.Module:
    """The class stands in here, because its decorator imports all of torch's compiler."""

    class Wrapped(Net):
        """What can be made to work, in one network, because an export takes seconds."""

        def __init__(self) -> None:
            super().__init__()
            self.kernel = torch.full((3, 1, 3, 3), 1 / 9)  # no parameter and no buffer
            self.scale = nn.Parameter(torch.linspace(0.5, 2, 8))
            self.cache: dict[str, Tensor] = {}
            self.middle = nn.utils.weight_norm(nn.Linear(8, 8))
            self.features[0] = nn.utils.weight_norm(self.features[0])
            self.head = nn.utils.spectral_norm(self.head)
            prune.l1_unstructured(self.middle, "bias", 0.5)  # type: ignore[no-untyped-call]
            self.features = torch.compile(self.features)  # type: ignore[assignment]

        @torch.no_grad()
        def extract(self, x: Tensor) -> Tensor:
            x = F.conv2d(x, self.kernel, padding=1, groups=3)
            x = F.conv2d(x, torch.eye(3)[:, :, None, None])  # made in 32 bits in each pass
            return super().extract(x)

        @torch.compile
        def pool(self, x: Tensor) -> Tensor:
            a = self.extract(x)
            F.hardtanh(a, 0.1, 0.6, inplace=True)
            if "scale" not in self.cache:
                self.cache["scale"] = self.scale * 2
            pooled: Tensor = self.middle((a * a).mean((2, 3)) * self.cache["scale"]).tanh()
            return pooled

    torch.manual_seed(4)
    network = nn.DataParallel(Wrapped())
    network.compile()
    return network


def half_precision() -> nn.Module:
    return Net().half()


def one_output() -> nn.Module:
    return Net(1)


def sigmoid_layer() -> nn.Module:
    parts = {"features": Net().features, "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    return nn.Sequential(OrderedDict(parts | {"head": nn.Linear(8, 1), "sigmoid": nn.Sigmoid()}))


def sigmoid_function() -> nn.Module:
    class Probability(Net):
        def forward(self, x: Tensor) -> Any:
            return self.answer(x).sigmoid()

    return Probability(1)


def one_output_of_a_convolution() -> nn.Module:
    parts = {
        "features": Net().features,
        "head": nn.Conv2d(8, 1, 1),
        "pool": nn.AdaptiveAvgPool2d(1),
    }
    return nn.Sequential(OrderedDict(parts | {"flat": nn.Flatten()}))


def softmax_layer() -> nn.Module:
    parts = {"features": Net().features, "pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten()}
    return nn.Sequential(OrderedDict(parts | {"head": nn.Linear(8, 3), "softmax": nn.Softmax(1)}))
