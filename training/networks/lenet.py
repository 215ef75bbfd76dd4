"""LeNet-5 (LeCun et al. 1998) in its common modern form. Knows nothing of data or training."""

from collections import OrderedDict

import torch
from torch import nn

from training.errors import UserError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
}
POOLINGS: dict[str, type[nn.Module]] = {"average": nn.AvgPool2d, "max": nn.MaxPool2d}


class LeNet5(nn.Module):
    """(N, C, 28, 28) to logits (N, K); 61,706 parameters for ten classes of gray pictures."""

    def __init__(
        self,
        classes: int = 10,
        channels: int = 1,
        activation: str = "sigmoid",
        pooling: str = "average",
        batch_norm: bool = False,
        dropout: float = 0.0,
        width: float = 1.0,
        depth: int = 2,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS or pooling not in POOLINGS:
            raise UserError(
                f"LeNet-5 cannot have {activation!r} with {pooling!r}. Activations are "
                f"{', '.join(ACTIVATIONS)}; poolings are {', '.join(POOLINGS)}."
            )
        if depth < 2:
            raise UserError(f"depth must be at least 2, got {depth}.")
        act, pool = ACTIVATIONS[activation], POOLINGS[pooling]
        c1, c2, f1, f2 = (round(size * width) for size in (6, 16, 120, 84))
        stages: OrderedDict[str, nn.Module] = OrderedDict()
        stages["conv1"] = nn.Conv2d(channels, c1, 5, padding=2)
        if batch_norm:
            stages["norm1"] = nn.BatchNorm2d(c1)
        stages["act1"] = act()  # (N, 6, 28, 28)
        stages["pool1"] = pool(2)  # (N, 6, 14, 14)
        for i in range(depth - 2):  # depth > 2: extra 3x3 convolutions between the poolings
            stages[f"deep{i + 1}"] = nn.Conv2d(c1, c1, 3, padding=1)
            if batch_norm:
                stages[f"deepnorm{i + 1}"] = nn.BatchNorm2d(c1)
            stages[f"deepact{i + 1}"] = act()
        stages["conv2"] = nn.Conv2d(c1, c2, 5)
        if batch_norm:
            stages["norm2"] = nn.BatchNorm2d(c2)
        stages["act2"] = act()  # (N, 16, 10, 10): the default target layer
        stages["pool2"] = pool(2)  # (N, 16, 5, 5)
        self.features = nn.Sequential(stages)
        head: OrderedDict[str, nn.Module] = OrderedDict()
        head["fc1"] = nn.Linear(c2 * 25, f1)
        head["act3"] = act()
        if dropout:
            head["drop1"] = nn.Dropout(dropout)
        head["fc2"] = nn.Linear(f1, f2)
        head["act4"] = act()
        if dropout:
            head["drop2"] = nn.Dropout(dropout)
        head["fc3"] = nn.Linear(f2, classes)
        self.classifier = nn.Sequential(head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.classifier(self.features(x).flatten(1))
        return logits  # (N, classes)
