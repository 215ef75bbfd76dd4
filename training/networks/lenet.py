"""LeNet-5 (LeCun et al. 1998) in its common modern form. Knows nothing of data or training."""

from collections import OrderedDict
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from training.validation import CHECKED, Settings

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
}
POOLINGS: dict[str, type[nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


@dataclass(frozen=True, config=CHECKED)
class LeNetOptions(Settings):
    """What a config's `options` can change."""

    PREFIX: ClassVar[str] = "options."

    activation: Literal["sigmoid", "tanh", "relu", "leaky_relu"] = "sigmoid"
    pooling: Literal["average", "max"] = "average"
    batch_norm: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # after both hidden linear layers
    width: Annotated[float, Field(ge=0.1)] = 1.0  # factor on the sizes of all layers
    depth: Annotated[int, Field(ge=2)] = 2  # number of convolutions


class LeNet5(nn.Module):
    """(N, C, 28, 28) to logits (N, K); 61,706 parameters for ten classes of gray pictures."""

    def __init__(self, classes: int = 10, channels: int = 1, /, **options: Any) -> None:
        super().__init__()
        chosen = LeNetOptions(**options)
        c1, c2, f1, f2 = (round(size * chosen.width) for size in (6, 16, 120, 84))
        self.features = make_features((channels, c1, c2), chosen)
        self.classifier = make_head((c2 * 25, f1, f2, classes), chosen)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(x).flatten(1))
        return logits  # (N, classes)


def make_features(channels: tuple[int, int, int], options: LeNetOptions) -> nn.Sequential:
    """The convolutions: (N, C, 28, 28) to (N, 16, 5, 5)."""
    act, pool = ACTIVATIONS[options.activation], POOLINGS[options.pooling]
    c0, c1, c2 = channels
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    stages["conv1"] = nn.Conv2d(c0, c1, 5, padding=2)
    if options.batch_norm:
        stages["norm1"] = nn.BatchNorm2d(c1)
    stages["act1"] = act()  # (N, 6, 28, 28)
    stages["pool1"] = pool(2)  # (N, 6, 14, 14)
    for i in range(options.depth - 2):  # extra 3x3 convolutions between the poolings
        stages[f"deep{i + 1}"] = nn.Conv2d(c1, c1, 3, padding=1)
        if options.batch_norm:
            stages[f"deepnorm{i + 1}"] = nn.BatchNorm2d(c1)
        stages[f"deepact{i + 1}"] = act()
    stages["conv2"] = nn.Conv2d(c1, c2, 5)
    if options.batch_norm:
        stages["norm2"] = nn.BatchNorm2d(c2)
    stages["act2"] = act()  # (N, 16, 10, 10): the default target layer
    stages["pool2"] = pool(2)  # (N, 16, 5, 5)
    return nn.Sequential(stages)


def make_head(sizes: tuple[int, int, int, int], options: LeNetOptions) -> nn.Sequential:
    """The three linear layers: (N, 400) to logits (N, K)."""
    act = ACTIVATIONS[options.activation]
    f0, f1, f2, classes = sizes
    head: OrderedDict[str, nn.Module] = OrderedDict()
    head["fc1"] = nn.Linear(f0, f1)
    head["act3"] = act()
    if options.dropout:
        head["drop1"] = nn.Dropout(options.dropout)
    head["fc2"] = nn.Linear(f1, f2)
    head["act4"] = act()
    if options.dropout:
        head["drop2"] = nn.Dropout(options.dropout)
    head["fc3"] = nn.Linear(f2, classes)
    return nn.Sequential(head)
