"""The last layer of a network is found, or its absence is one sentence."""

import pytest
from torch import nn

from training.errors import UserError
from training.networks.heads import find_last_layer


def test_a_network_without_a_last_layer_is_one_sentence() -> None:
    """The sentence names the network."""
    with pytest.raises(UserError, match="ReLU has no linear"):
        find_last_layer(nn.ReLU())
