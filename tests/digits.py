"""A small data set of drawn digits in the four files of MNIST, for tests without the real one."""

import gzip
import io
import random
from pathlib import Path

import numpy as np
from PIL import Image

from loadtests.digits import SIDE, draw_digit

COUNTS = {"train": 400, "t10k": 100}


def write_mnist(data: Path) -> None:
    """Write `data/mnist/*.gz` in the idx format: pixels (N, 28, 28) and N labels."""
    folder = data / "mnist"
    folder.mkdir(parents=True)
    source = random.Random(0)
    for stem, count in COUNTS.items():
        labels = [i % 10 for i in range(count)]
        drawn = [Image.open(io.BytesIO(draw_digit(label, source))) for label in labels]
        write_idx(folder / f"{stem}-images-idx3-ubyte.gz", np.stack([np.asarray(d) for d in drawn]))
        write_idx(folder / f"{stem}-labels-idx1-ubyte.gz", np.array(labels))
    assert drawn[0].size == (SIDE, SIDE)


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write two zeros, 8 for bytes, the number of dimensions, their sizes, and the bytes."""
    head = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(head + values.astype(np.uint8).tobytes()))
