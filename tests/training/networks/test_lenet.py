"""LeNet-5 is the network of the paper as it is taught, and its variants run."""

import pytest
import torch

from training.errors import UserError
from training.networks.classifier import count_parameters
from training.networks.lenet import LeNet5


def test_has_61706_parameters() -> None:
    """Convolutions of 6 and 16, then 120, 84 and 10."""
    assert count_parameters(LeNet5()) == 61_706


def test_features_end_at_ten_by_ten_before_the_last_pool() -> None:
    """The map that Grad-CAM explains is 10x10, the pooled one 5x5."""
    net = LeNet5()
    x = torch.zeros(2, 1, 28, 28)
    assert net.features[:5](x).shape == (2, 16, 10, 10)
    assert net.features(x).shape == (2, 16, 5, 5)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky_relu"])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_every_activation_and_pooling_runs(activation: str, pooling: str) -> None:
    """With batch-norm and dropout, too, and any number of classes."""
    net = LeNet5(3, activation=activation, pooling=pooling, batch_norm=True, dropout=0.5)
    assert net(torch.zeros(2, 1, 28, 28)).shape == (2, 3)


def test_an_unknown_activation_is_one_sentence() -> None:
    """It names what there is."""
    with pytest.raises(UserError, match="sigmoid, tanh, relu or leaky_relu"):
        LeNet5(activation="swish")
