"""A reader's clone of the project, with models of its own to add to.

Knows nothing of pages.
"""

import os
from pathlib import Path

import numpy as np

from tests.server import ROOT

LINKED = ("Makefile", "README.md", "docs", "loadtests", "service", "tests", "training")


def clone(folder: Path) -> None:
    """The project in a folder where a reader may write: models of its own, the rest linked."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for version in (ROOT / "models").glob("*/*/"):
        own = folder / version.relative_to(ROOT)
        own.parent.mkdir(parents=True, exist_ok=True)  # what is exported becomes a version of it
        own.symlink_to(version)


def put_weights(home: Path) -> None:
    """Where torchvision looks before it fetches: SqueezeNet's weights, if they are at hand."""
    file = Path(os.environ.get("SIGHTGLASS_DATA", "data"), "weights", "squeezenet1_1_imagenet.npz")
    if not file.exists():
        return
    import torch
    from torchvision import models

    url = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    place = home / "hub" / "checkpoints" / Path(url).name
    place.parent.mkdir(parents=True)
    with np.load(file) as arrays:
        torch.save({name: torch.from_numpy(arrays[name]) for name in arrays.files}, place)
