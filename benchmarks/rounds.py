"""The run: every server and the bound in turn, round after round, one at a time.

What is compared is measured within minutes of each other, so that a noisy machine cancels out.
"""

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import count
from pathlib import Path

from benchmarks import growth
from benchmarks.bound import find_answers, measure_bound
from benchmarks.client import ClientFault
from benchmarks.contenders import (
    ALTERNATIVES,
    OURS,
    Contender,
    make_our_asks,
    start_empty,
    start_ours,
)
from benchmarks.material import (
    CACHE,
    DIGIT_MODELS,
    MODELS,
    Pictures,
    make_digits,
    make_models,
    make_photographs,
)
from benchmarks.ours import measure_ours
from benchmarks.precisions import make_precisions, measure_precisions
from benchmarks.queueing import measure_queue
from benchmarks.samples import Results, Sample
from benchmarks.server import Server, ServerFault
from benchmarks.torch_rival import measure_explaining
from benchmarks.trial import Trial

RESULTS = CACHE / "results.json"
CLIENTS = (1, 8, 32)
DEFAULT_MODEL = "squeezenet1_1"  # of the bundled ones: a server is ready once it answers


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 2.5  # of one load
    bound_seconds: float = 0.3
    others: bool = True  # the other servers, too
    full: bool = False  # all settings of the alternatives at all numbers of clients
    minutes: float = 30  # no further round begins that would not end by then


FULL = Plan(rounds=9, seconds=5, bound_seconds=1, full=True, minutes=240)


def run(plan: Plan, path: Path, tell: Callable[[str], None]) -> Results:
    """Measure, and keep what there is at `path` after each round."""
    started = time.monotonic()
    make_models()
    make_precisions()
    results = Results(describe_machine())
    sizes = {"photo": (500, 375), "large": (2000, 1500)}
    made = [make_digits(), *(make_photographs(name, *size) for name, size in sizes.items())]
    answers = [find_answers(pictures) for pictures in made]
    kinds = [pictures for pictures, _ in answers]
    tops = {pictures.name: tops for pictures, tops in answers}
    for number in count(1):
        began = time.monotonic()
        keeper = Keeper(results, number, tell)
        for pictures in kinds:
            keeper.keep_all(list(measure_bound(pictures, plan.bound_seconds)))
        contenders = list(ALTERNATIVES) if plan.others else []
        start = number % max(len(contenders), 1)
        turned = contenders[start:] + contenders[:start]
        for contender in turned[::2]:
            measure_alternative(contender, kinds, tops, plan, keeper)
        measure_service(kinds, tops, plan, keeper)
        for contender in turned[1::2]:
            measure_alternative(contender, kinds, tops, plan, keeper)
        measure_start(keeper)
        keeper.keep_all(list(measure_explaining(kinds[1], plan.bound_seconds * 5)))
        keeper.keep_all(list(measure_precisions(kinds[1], plan.bound_seconds * 5)))
        for clients in CLIENTS:
            keeper.keep_all(list(measure_queue(clients, plan.bound_seconds)))
        results.write(path)
        now = time.monotonic()
        later = now + (now - began)
        if number >= plan.rounds or later - started > (plan.minutes - growth.MINUTES) * 60:
            break
    growth.measure(kinds, tops, plan.seconds, Keeper(results, 0, tell))
    results.write(path)
    return results


class Keeper:
    """Takes the samples of one round and tells of each."""

    def __init__(self, results: Results, number: int, tell: Callable[[str], None]) -> None:
        self._results = results
        self._number = number
        self._tell = tell

    def keep(self, sample: Sample) -> None:
        """One sample."""
        sample.round = self._number
        self._results.samples.append(sample)
        figures = "  ".join(f"{name} {value:.4g}" for name, value in sample.figures.items())
        where = f"{sample.case}  {sample.who}  {sample.clients}"
        self._tell(f"{self._number}  {where}:  {figures}  {sample.fault}")

    def keep_all(self, samples: Sequence[Sample]) -> None:
        """Several."""
        for sample in samples:
            self.keep(sample)

    def tell(self, sentence: str) -> None:
        """What went wrong."""
        self._tell(sentence)


def measure_alternative(
    contender: Contender,
    kinds: Sequence[Pictures],
    tops: dict[str, list[int]],
    plan: Plan,
    keeper: Keeper,
) -> None:
    """One server with each model, at each number of clients that its settings are for."""
    suited = CLIENTS if plan.full or contender.processes > 1 else (1,)
    for group in (kinds[:1], kinds[1:]):
        try:
            with contender.start(group[0]) as server:
                trial = Trial(server, contender.name, plan.seconds)
                for pictures in group:
                    asks = contender.make_asks(pictures, tops[pictures.name])
                    for clients in find_clients(pictures, suited, plan):
                        keeper.keep(trial.load(pictures.name, asks, clients))
        except (ServerFault, ClientFault) as fault:
            keeper.tell(str(fault))


def measure_service(
    kinds: Sequence[Pictures], tops: dict[str, list[int]], plan: Plan, keeper: Keeper
) -> None:
    """Our own with the models that the others have, as they are measured; then what only it has."""
    for group, models_dir in ((kinds[:1], DIGIT_MODELS), (kinds[1:], MODELS)):
        with start_ours(models_dir, group[0].model) as server:
            trial = Trial(server, OURS, plan.seconds)
            for pictures in group:
                asks = make_our_asks(pictures, tops[pictures.name])
                for clients in find_clients(pictures, CLIENTS, plan):
                    keeper.keep(trial.load(pictures.name, asks, clients))
            measure_ours(trial, group[0], tops[group[0].name], keeper.keep)


def find_clients(pictures: Pictures, suited: Sequence[int], plan: Plan) -> list[int]:
    """The numbers of clients to measure; large pictures only with many, unless all is wanted."""
    return [n for n in suited if plan.full or pictures.name != "large" or n == max(CLIENTS)]


def measure_start(keeper: Keeper) -> None:
    """Start to ready with the bundled models, and of BentoML with nothing."""
    with start_ours(growth.BUNDLED, DEFAULT_MODEL, default_model=DEFAULT_MODEL) as server:
        keeper.keep(describe_start(server))
    with start_empty() as server:
        keeper.keep(describe_start(server))


def describe_start(server: Server) -> Sample:
    """How long it took, and what its worker holds."""
    peaks = server.read_peaks()
    figures = {"seconds": server.start_seconds, "worker_mb": peaks[0]}
    return Sample("start", server.name, 0, figures)


def describe_machine() -> dict[str, str]:
    """Where and with what it was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in open("/proc/cpuinfo", encoding="utf-8")  # noqa: SIM115
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    packages = ("bentoml", "numpy", "onnxruntime-gpu", "pillow", "uvicorn")
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    cores = f"{len(os.sched_getaffinity(0))} cores, {model}"
    return {"date": time.strftime("%Y-%m-%d"), "machine": cores, "versions": versions}
