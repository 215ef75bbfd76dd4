"""Measures throughput with more cores, larger pictures, larger batches and more models."""

import dataclasses
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.bound import find_answers
from benchmarks.client import Request, make_form, post
from benchmarks.contenders import OURS, make_our_requests, start_ours
from benchmarks.material import CACHE, ROOT, Pictures, find_model, make_photographs
from benchmarks.samples import Sample
from benchmarks.trial import Trial

MINUTES = 3  # approximate duration
BUNDLED = ROOT / "models"
SIZES = ((250, 188), (500, 375), (1000, 750), (2000, 1500), (4000, 3000))
BATCHES = (1, 2, 4, 8, 16, 32, 64)
MODEL_COUNTS = (1, 2, 4, 8)
CLIENTS = 8
CORE_CLIENTS = 32  # fewer clients would make small batches, in which threads wait for each other
BATCH_CLIENTS = 3  # more clients would exceed the queue with the largest batches


class SampleRecorder(Protocol):
    """An object that records samples."""

    def record(self, sample: Sample) -> None:
        """Record one sample."""


def measure(
    kinds: Sequence[Pictures], tops: dict[str, list[int]], seconds: float, recorder: SampleRecorder
) -> None:
    """Measure all four series. The growing number takes the place of the clients."""
    digits, photographs, _ = kinds
    with start_ours() as server:
        trial = Trial(server, OURS, seconds)
        for width, height in SIZES:
            requests = make_our_requests(*find_answers(make_photographs("size", width, height)))
            recorder.record(_name(trial.load("", requests, CLIENTS), "by size", width * height))
        for size in BATCHES:
            requests = make_batch(digits, tops["digit"], size)
            recorder.record(_name(trial.load("", requests, BATCH_CLIENTS, size), "by batch", size))
    cores = sorted(os.sched_getaffinity(0))
    for number in range(1, len(cores) + 1):
        with start_ours(cores=cores[:number]) as server:
            trial = Trial(server, OURS, seconds)
            requests = make_our_requests(photographs, tops["photo"])
            recorder.record(_name(trial.load("", requests, CORE_CLIENTS), "by cores", number))
    for number in MODEL_COUNTS:
        with start_ours(copy_model("lenet5", number), f"lenet5-{number - 1}") as server:
            trial = Trial(server, OURS, seconds)
            requests = spread_over(make_our_requests(digits, tops["digit"]), number)
            recorder.record(_name(trial.load("", requests, CLIENTS), "by models", number))


def _name(sample: Sample, case: str, number: int) -> Sample:
    return dataclasses.replace(sample, case=case, clients=number)


def make_batch(digits: Pictures, tops: Sequence[int], size: int) -> list[Request]:
    """Make one request with `size` digits."""
    body, media_type = make_form("image", digits.files[:size])
    path = f"/predict/batch?model={digits.model}"
    needle = f'"predictions":[{{"label":"{digits.labels[tops[0]]}",'.encode()
    return [Request(post(path, body, {"Content-Type": media_type}), needle)]


def copy_model(name: str, number: int) -> Path:
    """A folder with `number` copies of the same model."""
    tree = CACHE / f"models-{number}"
    for copy in range(number):
        folder = tree / f"{name}-{copy}" / "1"
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(find_model(name), folder)
    return tree


def spread_over(requests: Sequence[Request], number: int) -> list[Request]:
    """Spread the requests over the copies of the model."""
    return [
        Request(
            request.message.replace(b"model=lenet5 ", f"model=lenet5-{i % number} ".encode()),
            request.needle,
        )
        for i, request in enumerate(requests)
    ]
