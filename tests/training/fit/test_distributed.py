"""Two processes that train together give the same result as one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.server import find_free_port
from training.errors import UserError
from training.fit import distributed
from training.fit.distributed import check_batch_size

SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.training.conftest import bars
from training.config import load_config
from training.fit.loop import fit
from training.imaging.augmentation import Augmentation
import torch

torch.set_num_threads(1)
quick = replace(
    load_config("lenet5"), name="strokes", epochs=2, batch_size=16, average=0.0, device="cpu",
    augment=Augmentation(), optimizer="sgd", learning_rate=0.05,
    options={"activation": "tanh"},
)
fit(quick, bars(), Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_two_processes_give_the_losses_and_weights_of_one(tmp_path: Path) -> None:
    """They take the same global batches; the network has no batch-norm."""
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
        assert expected["val_loss"] == pytest.approx(found["val_loss"], rel=1e-4)
    for name, weight in one["model"].items():
        assert torch.allclose(weight, two["model"][name], atol=1e-5)


def test_the_batch_size_must_be_a_multiple_of_the_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sentence names both numbers."""
    monkeypatch.setattr(distributed, "get_world_size", lambda: 3)
    with pytest.raises(UserError, match=r"multiple of the 3 processes, got 16"):
        check_batch_size(16)
