"""Weights are read from several kinds of files, and loaded only into a network that they match."""

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from torchvision.models import _api as api

from training.config import Config
from training.errors import UserError
from training.networks.classifier import build_classifier
from training.networks.torchvision_zoo import download_torchvision_weights
from training.networks.weight_files import read_state_dict
from training.networks.weights import load_into_network


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_are_read_from_pt_and_safetensors(
    resnet: Config, tmp_path: Path, suffix: str
) -> None:
    """A .pt file may hold them under `state_dict`, with the prefix of DataParallel."""
    from safetensors.torch import save_file

    state = read_state_dict(Path(str(resnet.weights)))
    file = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, file)
    else:
        save_file({k: v.contiguous() for k, v in state.items()}, file)
    found = read_state_dict(file)
    assert found.keys() == state.keys()
    assert torch.equal(found["fc.bias"], state["fc.bias"])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("w.npz", b"no", "is not a readable weights file"),
        ("w.pt", b"no", "is not a readable weights file"),
        ("w.safetensors", b"no", "is not a readable weights file"),
        ("w.onnx", b"no", "must be a .npz, .safetensors, .pt, .pth or .bin file"),
    ],
)
def test_broken_weights_are_one_sentence(
    tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    """The sentence names the file, whatever its suffix."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_state_dict(tmp_path / name)


def test_weights_of_another_network_are_refused(resnet: Config) -> None:
    """With `partly`, too, if more than half of the tensors differ."""
    state = read_state_dict(Path(str(resnet.weights)))
    other = build_classifier("squeezenet1_1", 7, resnet.input, {}).network
    with pytest.raises(UserError, match="do not match the network"):
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
