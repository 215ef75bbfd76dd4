"""Two processes that train together give the same result as one."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.server import find_free_port
from training.config import Config
from training.data.datasets import Dataset
from training.errors import UserError
from training.fit import distributed
from training.fit.distributed import check_batch_size, find_unused_weights
from training.fit.loaders import make_loader
from training.fit.scores import Tally, merge_tallies, take_share

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.training.conftest import bars
from training.config_file import load_config
from training.fit.loop import fit
from training.imaging.augmentation import Augmentation
import torch

torch.set_num_threads(1)
quick = replace(
    load_config("lenet5"), name="strokes", epochs=3, batch_size=8, accumulate=2, average=0.9,
    device="cpu", augment=Augmentation(), optimizer="sgd", learning_rate=0.05, freeze_epochs=1,
    options={"activation": "tanh"}, best="macro_roc_auc", clip=1.0,
)
fit(quick, bars(), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path: Path) -> None:
    """They take the same global batches; the network has no batch-norm.

    Each measures its share of the validation split, and the figures are those of all.
    """
    script = tmp_path / "fit.py"
    script.write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    torchrun += [f"--master-port={find_free_port()}", str(script), str(tmp_path / "two")]
    calls = [sys.executable, str(script), str(tmp_path / "one")], torchrun
    root = Path(__file__).parents[3]
    for call in calls:
        done = subprocess.run(
            call, cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()[-2000:]
    one, two = (torch.load(tmp_path / run / "last.pt", weights_only=True) for run in ("one", "two"))
    for expected, found in zip(one["history"], two["history"], strict=True):
        for name in ("train_loss", "val_loss", "val_accuracy", "val_macro_roc_auc"):
            assert expected[name] == pytest.approx(found[name], rel=1e-4)
    for name, weight in one["model"].items():
        assert torch.allclose(weight, two["model"][name], atol=1e-5)


@pytest.mark.parametrize("processes", [2, 3, 7])
def test_shares_of_a_split_have_the_figures_of_the_whole(
    quick: Config, strokes: Dataset, processes: int
) -> None:
    """To the bit, because the batches are the same and the counts are whole numbers."""
    config = replace(quick, batch_size=5, best="macro_f1")
    split = strokes.splits["val"]

    def measure(shares: int) -> dict[str, float]:
        tallies = []
        for rank in range(shares):
            tallies.append(Tally(config, 2))
            share = take_share(split, 5, rank, shares)
            for image, label in make_loader(share, config, 2, torch.device("cpu")).iterate():
                logits = image.float().mean((1, 2))[:, :1] * torch.tensor([0.01, -0.02])
                loss = float(F.cross_entropy(logits, label))
                tallies[-1].count(loss, logits, label)
        return merge_tallies(tallies)

    assert measure(1) == measure(processes)


def test_weights_without_a_gradient_are_found() -> None:
    """Torch must know of them. Looking for them changes nothing in the network."""
    norm = nn.BatchNorm2d(3)
    network = nn.Sequential(norm)
    network.register_parameter("spare", nn.Parameter(torch.zeros(2)))
    assert find_unused_weights(network, torch.rand(2, 3, 4, 4)) == ["spare"]
    assert norm.running_mean is not None
    assert norm.running_mean.eq(0).all()
    assert all(weight.grad is None for weight in network.parameters())


def test_the_batch_size_must_be_a_multiple_of_the_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sentence names both numbers."""
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    with pytest.raises(UserError, match=r"multiple of the 3 processes, got 16"):
        check_batch_size(16)
