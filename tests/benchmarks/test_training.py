"""Each training loop of the benchmark takes the steps of an epoch."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.optim.optimizer import register_optimizer_step_post_hook

from benchmarks.training.loops import LOOPS
from training.data.decoded import store


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_changes_the_weights_in_each_step(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of four pictures, so two steps of the optimizer."""
    if name == "timm":
        pytest.importorskip("timm")
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for label in "ab":
            place = tmp_path / "set" / split / label
            place.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (36, 40, 3), np.uint8)
                Image.fromarray(pixels).save(place / f"{split}{i}.png")
    steps = 0

    def count_step(*_: object) -> None:
        nonlocal steps
        steps += 1

    epoch = LOOPS[name](tmp_path / "set", "resnet18", 32, 4)
    hook = register_optimizer_step_post_hook(count_step)
    try:
        epoch()
    finally:
        hook.remove()
    assert steps == 2
