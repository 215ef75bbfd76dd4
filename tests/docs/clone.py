"""A reader's clone of the project, with models of its own to add to.

Knows nothing of pages.
"""

import os
from pathlib import Path

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

    from training import weights

    url = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    place = home / "hub" / "checkpoints" / Path(url).name
    place.parent.mkdir(parents=True)
    torch.save(weights.read(file), place)
