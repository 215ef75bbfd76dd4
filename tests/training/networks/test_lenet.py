"""LeNet-5 has the layers of the paper, and its variants run."""

import pytest
import torch

from training.errors import UserError
from training.networks.classifier import count_parameters
from training.networks.lenet import LeNet5


def test_lenet5_has_61706_parameters() -> None:
    """Convolutions with 6 and 16 channels, then linear layers of 120, 84 and 10."""
    assert count_parameters(LeNet5()) == 61_706


def test_the_last_map_before_the_pooling_is_ten_by_ten() -> None:
    """Grad-CAM targets the map of 10x10; the pooling makes it 5x5."""
    net = LeNet5()
    x = torch.zeros(2, 1, 28, 28)
    assert net.features[:5](x).shape == (2, 16, 10, 10)
    assert net.features(x).shape == (2, 16, 5, 5)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_every_activation_and_pooling_runs(activation: str, pooling: str) -> None:
    """Together with batch-norm, dropout and another number of classes."""
    net = LeNet5(3, activation=activation, pooling=pooling, batch_norm=True, dropout=0.5)
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


def test_an_unknown_activation_is_one_sentence() -> None:
    """The sentence lists the activations."""
    with pytest.raises(UserError, match="sigmoid, tanh, relu or leaky_relu"):
        LeNet5(activation="swish")
