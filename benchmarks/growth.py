"""Throughput as the work grows: more cores, larger pictures, larger batches, more models."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.bound import find_answers
from benchmarks.client import Ask, make_form, post
from benchmarks.contenders import OURS, make_our_asks, start_ours
from benchmarks.material import CACHE, ROOT, Pictures, find_model, make_photographs
from benchmarks.samples import Sample
from benchmarks.trial import Trial

MINUTES = 3  # that it takes, about
BUNDLED = ROOT / "models"
SIZES = ((250, 188), (500, 375), (1000, 750), (2000, 1500), (4000, 3000))
BATCHES = (1, 2, 4, 8, 16, 32, 64)
MODEL_COUNTS = (1, 2, 4, 8)
CLIENTS = 8
CORE_CLIENTS = 32  # few share each run of the model, whose threads wait for each other
BATCH_CLIENTS = 3  # the largest batches of more would not all have room


class Keeps(Protocol):
    """Whoever takes the samples."""

    def keep(self, sample: Sample) -> None:
        """One of them."""


def measure(
    kinds: Sequence[Pictures], tops: dict[str, list[int]], seconds: float, keeper: Keeps
) -> None:
    """All four lines; the number that grows stands in place of the clients."""
    digits, photographs, _ = kinds
    with start_ours() as server:
        trial = Trial(server, OURS, seconds)
        for width, height in SIZES:
            asks = make_our_asks(*find_answers(make_photographs("size", width, height)))
            keeper.keep(_name(trial.load("", asks, CLIENTS), "by size", width * height))
        for size in BATCHES:
            asks = make_batch(digits, tops["digit"], size)
            keeper.keep(_name(trial.load("", asks, BATCH_CLIENTS, size), "by batch", size))
    cores = sorted(os.sched_getaffinity(0))
    for number in range(1, len(cores) + 1):
        with start_ours(cores=cores[:number]) as server:
            trial = Trial(server, OURS, seconds)
            asks = make_our_asks(photographs, tops["photo"])
            keeper.keep(_name(trial.load("", asks, CORE_CLIENTS), "by cores", number))
    for number in MODEL_COUNTS:
        with start_ours(copy_model("lenet5", number), f"lenet5-{number - 1}") as server:
            trial = Trial(server, OURS, seconds)
            asks = spread_over(make_our_asks(digits, tops["digit"]), number)
            keeper.keep(_name(trial.load("", asks, CLIENTS), "by models", number))


def _name(sample: Sample, case: str, number: int) -> Sample:
    return dataclasses.replace(sample, case=case, clients=number)


def make_batch(digits: Pictures, tops: Sequence[int], size: int) -> list[Ask]:
    """One request with so many digits."""
    body, media_type = make_form("image", digits.files[:size])
    path = f"/predict/batch?model={digits.model}"
    needle = f'"predictions":[{{"label":"{digits.labels[tops[0]]}",'.encode()
    return [Ask(post(path, body, {"Content-Type": media_type}), needle)]


def copy_model(name: str, number: int) -> Path:
    """A tree with the same model under so many names."""
    tree = CACHE / f"models-{number}"
    for copy in range(number):
        folder = tree / f"{name}-{copy}" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(find_model(name), folder)
    return tree


def spread_over(asks: Sequence[Ask], number: int) -> list[Ask]:
    """The same requests, to each of the copies in turn."""
    return [
        Ask(
            ask.message.replace(b"model=lenet5 ", f"model=lenet5-{i % number} ".encode()),
            ask.needle,
        )
        for i, ask in enumerate(asks)
    ]
