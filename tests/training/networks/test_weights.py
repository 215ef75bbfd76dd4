"""Weights are loaded only into a network that they match, whatever wrapper has named them."""

import copy
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models import _api as api

from training.config import Config
from training.errors import UserError
from training.networks.classifier import build_classifier
from training.networks.torchvision_zoo import download_torchvision_weights, get_torchvision_input
from training.networks.weight_files import StateDict, read_state_dict
from training.networks.weights import load_into_network


def make_network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def rename(state: StateDict, prefix: str) -> StateDict:
    return {f"{prefix}{name}": value for name, value in state.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.", "model._orig_mod.", "a.b."]
)
def test_prefixes_of_wrappers_are_stripped(prefix: str) -> None:
    """Those of DataParallel, torch.compile and Lightning, and what is not the network's is left."""
    source, network = make_network(), make_network()
    state = rename(source.state_dict(), prefix)
    if prefix != "_orig_mod.":
        state["criterion.weight"] = torch.ones(2)
    assert load_into_network(network, state) == []
    assert torch.equal(network.get_parameter("3.weight"), source.get_parameter("3.weight"))


def test_names_inside_a_compiled_module_are_matched() -> None:
    """torch.compile puts its name into the middle, too."""
    source, network = make_network(), make_network()
    state = {re.sub(r"^0\.", "0._orig_mod.", n): v for n, v in source.state_dict().items()}
    assert load_into_network(network, state) == []


def test_of_two_copies_the_usual_name_is_taken() -> None:
    """An average is kept beside the model under another name; two unusual names are refused."""
    source, network = make_network(), make_network()
    state = source.state_dict()
    zeros = {name: torch.zeros_like(value) for name, value in state.items()}
    load_into_network(network, rename(zeros, "ema.") | rename(state, "model."))
    assert torch.equal(network.get_parameter("3.weight"), source.get_parameter("3.weight"))
    with pytest.raises(UserError, match=r"hold the network 2 times, under student\., teacher\."):
        load_into_network(network, rename(zeros, "teacher.") | rename(state, "student."))


def test_a_network_may_use_the_name_of_a_wrapper() -> None:
    """Nothing is stripped from names that match as they are."""
    network = nn.Sequential()
    network.add_module("module", make_network())
    assert load_into_network(network, copy.deepcopy(network).state_dict()) == []


def test_layers_with_the_name_of_an_auxiliary_head_are_loaded() -> None:
    """Auxiliary heads are left out only if the network has none."""
    source, network = nn.Sequential(), nn.Sequential()
    for made in (source, network):
        made.add_module("auxiliary", nn.Linear(2, 2))
    load_into_network(network, source.state_dict() | {"aux1.weight": torch.ones(1)})
    assert torch.equal(
        network.get_parameter("auxiliary.weight"), source.get_parameter("auxiliary.weight")
    )


def test_a_mismatch_names_how_many_and_the_first() -> None:
    """Missing, unexpected, and with both shapes."""
    network = make_network()
    state = dict(network.state_dict())
    state["head.weight"], state["head.bias"] = state.pop("3.weight"), state.pop("3.bias")
    state["0.weight"] = torch.zeros(4, 1, 3, 3)
    with pytest.raises(UserError) as refused:
        load_into_network(network, state)
    assert str(refused.value) == (
        "The weights do not match the network: 2 missing (3.weight, 3.bias); "
        "2 unexpected (head.weight, head.bias); "
        "1 of another shape (0.weight (4, 1, 3, 3) instead of (4, 3, 3, 3))."
    )


def test_weights_that_are_not_finite_are_refused() -> None:
    """A run that diverged leaves them."""
    state = dict(make_network().state_dict())
    state["3.bias"] = torch.tensor([0.0, float("nan")])
    with pytest.raises(UserError, match=r"not finite, the first in 3\.bias"):
        load_into_network(make_network(), state)


def test_mnasnets_weights_are_loaded(tmp_path: Path) -> None:
    """It asks for the version of its state dict, which files of tensors do not hold."""
    torch.manual_seed(0)
    source, network = (models.mnasnet0_5(num_classes=2) for _ in range(2))
    torch.save({"state_dict": source.state_dict()}, tmp_path / "w.pt")
    load_into_network(network, read_state_dict(tmp_path / "w.pt"))
    pairs = zip(source.parameters(), network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_densenets_old_names_are_loaded() -> None:
    """Torchvision's own files have them."""
    source = models.DenseNet(4, (1,), 8, num_classes=2)
    state = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", name): value
        for name, value in source.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    assert load_into_network(models.DenseNet(4, (1,), 8, num_classes=2), state) == []


@pytest.mark.parametrize("architecture", ["inception_v3", "googlenet"])
def test_inceptions_are_normalised_as_their_weights_expect(architecture: str) -> None:
    """Torchvision changes the input inside the network where it loads the weights."""
    wanted = get_torchvision_input(architecture)
    assert wanted.mean == wanted.std == (0.5, 0.5, 0.5)


def test_weights_of_another_network_are_refused(resnet: Config) -> None:
    """With `partly`, too, if more than half of the tensors differ."""
    state = read_state_dict(Path(str(resnet.weights)))
    other = build_classifier("squeezenet1_1", 7, resnet.input, {}).network
    with pytest.raises(UserError, match=r"do not match the network: 52 missing \(features"):
        load_into_network(other, state)
    with pytest.raises(UserError, match="do not match the network"):
        load_into_network(other, state, partly=True)


def test_weights_that_cannot_be_downloaded_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sentence names the architecture and the address of the file."""

    def fail(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(api, "load_state_dict_from_url", fail)
    with pytest.raises(UserError, match=r"weights of resnet18 cannot be downloaded: .*no network"):
        download_torchvision_weights("resnet18")
