"""State dicts are found in the checkpoints that training programs write; no code is executed."""

import argparse
import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from training.errors import UserError
from training.networks.weight_files import read_state_dict

STATE = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()
OPTIMIZER = {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]}


class Settings(dict[str, Any]):
    """A class of dictionaries that torch does not know."""


class AttributeDict(dict[str, Any]):
    """Lightning's class for hyperparameters, by its name."""


CHECKPOINTS: dict[str, Any] = {
    "plain.pt": STATE,
    "named.pt": {"model_state_dict": STATE, "optimizer_state_dict": OPTIMIZER, "loss": 0.3},
    "net.pth": {"net": STATE, "acc": 93.1, "epoch": 3},
    "imagenet.pth.tar": {
        "epoch": 4, "arch": "resnet18", "state_dict": STATE, "best_acc1": torch.tensor(70.0),
        "optimizer": OPTIMIZER,
    },
    "torchvision.pth": {
        "model": STATE, "optimizer": OPTIMIZER, "lr_scheduler": {"last_epoch": 3}, "epoch": 3,
        "args": argparse.Namespace(lr=0.1, data_path="x"), "scaler": {"scale": 1.0},
        "model_ema": {name: torch.zeros_like(value) for name, value in STATE.items()},
    },
    "lightning.ckpt": {
        "epoch": 3, "global_step": 12, "pytorch-lightning_version": "2.4.0", "state_dict": STATE,
        "loops": {"fit_loop": {"state_dict": {}}}, "optimizer_states": [OPTIMIZER],
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.3)}},
        "hyper_parameters": AttributeDict(path=Path("x"), optimizer=torch.optim.SGD),
    },
    "scores.pt": {"state_dict": STATE, "best": np.float64(0.3), "losses": np.arange(3)},
    "counts.pt": {"state_dict": STATE, "counts": defaultdict(int, a=1)},
    "other_name.pt": {"classifier": STATE, "accuracy": {"test": torch.tensor(0.3)}},
    "nested.pt": {"model": {"state_dict": STATE}},
    "mixed.pt": {**STATE, "epoch": 3, "note": "the best"},
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_the_state_dict_of_a_checkpoint_is_found(tmp_path: Path, name: str) -> None:
    """Whatever else the checkpoint holds; of torchvision's two, the trained weights are taken."""
    torch.save(CHECKPOINTS[name], tmp_path / name)
    found = read_state_dict(tmp_path / name)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], STATE[key]) for key in STATE)


def test_files_in_torchs_old_format_are_read(tmp_path: Path) -> None:
    """Torch wrote it before version 1.6."""
    file = tmp_path / "old.pth.tar"
    torch.save(
        {"state_dict": STATE, "optimizer": OPTIMIZER}, file, _use_new_zipfile_serialization=False
    )
    assert read_state_dict(file).keys() == STATE.keys()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_of_tensors_alone_are_read(tmp_path: Path, suffix: str) -> None:
    """Their tensors are those that were saved."""
    file = tmp_path / f"weights{suffix}"
    if suffix == ".npz":
        np.savez(file, **{name: value.numpy() for name, value in STATE.items()})
    else:
        save_file(dict(STATE), file)
    assert torch.equal(read_state_dict(file)["0.weight"], STATE["0.weight"])


class Program:
    """Would run a program where it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("function", [os.mkdir, os.system, eval, exec])
def test_code_in_a_checkpoint_is_never_executed(tmp_path: Path, function: Any) -> None:
    """The file is refused, or read without the object that holds the code."""
    trace = tmp_path / "executed"
    text = f"__import__('os').mkdir({str(trace)!r})"
    arguments = {os.mkdir: str(trace), os.system: f"mkdir {trace}"}.get(function, text)
    torch.save({"state_dict": STATE, "x": Program(function, arguments)}, tmp_path / "w.pt")
    if function in (os.mkdir, os.system):
        with pytest.raises(UserError, match="code in a file is never executed"):
            read_state_dict(tmp_path / "w.pt")
    else:
        assert read_state_dict(tmp_path / "w.pt").keys() == STATE.keys()
    assert not trace.exists()


def save_odd_files(folder: Path) -> None:
    """Files that are refused."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    torch.save(network, folder / "whole.pt")
    torch.save({"model": network, "epoch": 3}, folder / "inside.pt")
    torch.jit.save(torch.jit.script(network), str(folder / "script.pt"))
    torch.save({"a": STATE, "b": STATE}, folder / "two.pt")
    torch.save(OPTIMIZER, folder / "optimizer.pt")
    torch.save([STATE], folder / "list.pt")
    torch.save({}, folder / "empty.pt")
    torch.save({"settings": Settings(a=1)}, folder / "settings.pt")
    (folder / "pickle.pt").write_bytes(pickle.dumps({"a": argparse.Namespace()}))
    (folder / "weights.pkl").write_bytes(b"")
    for suffix in ("npz", "pt", "safetensors", "ckpt", "tar"):
        (folder / f"broken.{suffix}").write_bytes(b"no")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("whole.pt", "holds a whole network as a Python object"),
        ("inside.pt", "holds a whole network as a Python object"),
        ("script.pt", "is a TorchScript program"),
        ("two.pt", "holds several state dicts: a, b"),
        ("optimizer.pt", "holds no state dict. It holds state, param_groups"),
        ("list.pt", "holds no state dict. It holds a list"),
        ("empty.pt", "holds no state dict. It holds nothing"),
        ("settings.pt", "is not a readable weights file|holds no state dict"),
        ("pickle.pt", "is not a readable weights file"),
        ("weights.pkl", r"must be a .npz, .safetensors, .pt, .pth, .bin, .ckpt or .tar file"),
        ("missing.pt", "There is no weights file"),
        *[
            (f"broken.{suffix}", "is not a readable weights file")
            for suffix in ("npz", "pt", "safetensors", "ckpt", "tar")
        ],
    ],
)
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_file_without_a_state_dict_is_one_sentence(
    tmp_path: Path, name: str, sentence: str
) -> None:
    """Torch's advice to unpickle it all the same is not repeated."""
    save_odd_files(tmp_path)
    with pytest.raises(UserError, match=sentence) as refused:
        read_state_dict(tmp_path / name)
    said = str(refused.value)
    assert said.startswith(str(tmp_path / name)) or "There is no" in said
    assert len(said.splitlines()) == 1
    assert "weights_only" not in said
    if name.endswith(".pt") and name not in ("missing.pt", "broken.pt"):
        assert "Save net.state_dict() with torch.save, and give that file." in said


def test_an_ordered_state_dict_keeps_its_order(tmp_path: Path) -> None:
    """A mismatch then names the first layers."""
    torch.save(OrderedDict(reversed(STATE.items())), tmp_path / "w.pt")
    assert list(read_state_dict(tmp_path / "w.pt")) == list(reversed(STATE))
