"""Compares the training loops in turn, and prints a table.

It needs EuroSAT in $SIGHTGLASS_DATA, and timm (`pip install timm`).
"""

import argparse
import shutil
import statistics
import sys
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.training.loops import LOOPS
from training.config import get_data_folder


def main() -> None:
    """Measure the CPU time of each loop for one picture, round after round."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--architecture", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--side", type=int, default=64, help="of the pictures, in pixels")
    parser.add_argument("--batch", type=int, default=64, help="pictures in a step")
    parser.add_argument("--steps", type=int, default=10, help="in an epoch")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each loop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as place:
        folder = Path(place)
        copy_pictures(get_data_folder() / "eurosat", folder, options.batch * options.steps)
        epochs = {
            name: make(folder, options.architecture, options.side, options.batch)
            for name, make in LOOPS.items()
        }
        spent: dict[str, list[float]] = {name: [] for name in epochs}
        for round_ in range(options.rounds + 1):
            for name, epoch in epochs.items():
                started = time.process_time()
                epoch()
                if round_:  # the first one warms up
                    spent[name].append(time.process_time() - started)
    print("| loop | ms of CPU per picture, median | smallest to largest |\n|---|--:|---|")
    for name, seconds in spent.items():
        each = [1000 * s / options.batch / options.steps for s in seconds]
        low, middle, high = min(each), statistics.median(each), max(each)
        print(f"| {name} | {middle:.2f} | {low:.2f} to {high:.2f} |")


def copy_pictures(data: Path, folder: Path, count: int) -> None:
    """A data set of so many training pictures, the same number of each label."""
    if not data.is_dir():
        sys.exit(f"There is no folder {data}. Set SIGHTGLASS_DATA.")
    labels = sorted(path.name for path in (data / "train").iterdir())
    for split, each in (("train", count // len(labels)), ("val", 2)):
        for label in labels:
            place = folder / split / label
            place.mkdir(parents=True)
            for path in islice(sorted((data / split / label).iterdir()), each):
                shutil.copy(path, place)


if __name__ == "__main__":
    main()
