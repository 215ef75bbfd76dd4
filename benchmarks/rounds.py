"""Runs the measurements: in each round every server and the bound, one after another.

Results that are compared are measured within minutes, so that noise of the machine cancels out.
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
from benchmarks.client import ClientError
from benchmarks.contenders import (
    ALTERNATIVES,
    OURS,
    OURS_BY_DEFAULT,
    Contender,
    make_our_requests,
    start_empty,
    start_ours,
)
from benchmarks.material import (
    CACHE,
    DIGIT_MODELS,
    MASK_MODELS,
    MODELS,
    Pictures,
    make_cells,
    make_digits,
    make_models,
    make_photographs,
)
from benchmarks.ours import BESIDE, JSON, MEDIUM_CLIENTS, measure_ours
from benchmarks.precisions import make_precisions, measure_precisions
from benchmarks.queueing import measure_queue
from benchmarks.samples import Results, Sample
from benchmarks.server import Server, ServerError
from benchmarks.torch_rival import measure_explaining
from benchmarks.trial import Trial

RESULTS = CACHE / "results.json"
CLIENTS = (1, 8, 32)
MASK_TIME = 4  # a mask takes longer than a class, so it is measured for longer
DEFAULT_MODEL = (
    "efficientnet_lite0"  # a server with the bundled models is ready once this one answers
)


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 2.5  # duration of one load
    bound_seconds: float = 0.3
    others: bool = True  # measure the other servers as well
    full: bool = False  # all settings of the alternatives with all numbers of clients
    minutes: float = 30  # no round starts that would end later


FULL = Plan(rounds=9, seconds=5, bound_seconds=1, full=True, minutes=240)


def run(plan: Plan, path: Path, report: Callable[[str], None]) -> Results:
    """Measure, and write the results to `path` after each round."""
    started = time.monotonic()
    make_models()
    make_precisions()
    results = Results(describe_machine())
    sizes = {"photo": (500, 375), "large": (2000, 1500)}
    made = [make_digits(), *(make_photographs(name, *size) for name, size in sizes.items())]
    answers = [find_answers(pictures) for pictures in made]
    kinds = [pictures for pictures, _ in answers]
    tops = {pictures.name: tops for pictures, tops in answers}
    cells = find_answers(make_cells())
    for number in count(1):
        began = time.monotonic()
        recorder = Recorder(results, number, report)
        for pictures in kinds:
            recorder.record_all(list(measure_bound(pictures, plan.bound_seconds)))
        contenders = list(ALTERNATIVES) if plan.others else []
        start = number % max(len(contenders), 1)
        rotated = contenders[start:] + contenders[:start]
        for contender in rotated[::2]:
            measure_alternative(contender, kinds, tops, plan, recorder)
        measure_service(kinds, tops, plan, recorder)
        measure_default(kinds[1:], tops, plan, recorder)
        for contender in rotated[1::2]:
            measure_alternative(contender, kinds, tops, plan, recorder)
        measure_masks(*cells, plan, recorder)
        measure_start(recorder)
        recorder.record_all(list(measure_explaining(kinds[1], plan.bound_seconds * 5)))
        recorder.record_all(list(measure_precisions(kinds[1], plan.bound_seconds * 5)))
        for clients in CLIENTS:
            recorder.record_all(list(measure_queue(clients, plan.bound_seconds)))
        results.write(path)
        now = time.monotonic()
        later = now + (now - began)
        if number >= plan.rounds or later - started > (plan.minutes - growth.MINUTES) * 60:
            break
    growth.measure(kinds, tops, plan.seconds, Recorder(results, 0, report))
    results.write(path)
    return results


class Recorder:
    """Records the samples of one round and reports each."""

    def __init__(self, results: Results, number: int, report: Callable[[str], None]) -> None:
        self._results = results
        self._number = number
        self._report = report

    def record(self, sample: Sample) -> None:
        """Record one sample."""
        sample.round = self._number
        self._results.samples.append(sample)
        figures = "  ".join(f"{name} {value:.4g}" for name, value in sample.figures.items())
        where = f"{sample.case}  {sample.who}  {sample.clients}"
        self._report(f"{self._number}  {where}:  {figures}  {sample.fault}")

    def record_all(self, samples: Sequence[Sample]) -> None:
        """Record several samples."""
        for sample in samples:
            self.record(sample)

    def report(self, sentence: str) -> None:
        """Report an error."""
        self._report(sentence)


def measure_alternative(
    contender: Contender,
    kinds: Sequence[Pictures],
    tops: dict[str, list[int]],
    plan: Plan,
    recorder: Recorder,
) -> None:
    """Measure one server with each model and each number of clients that suits its settings."""
    suited = CLIENTS if plan.full or contender.processes > 1 else (1,)
    for group in (kinds[:1], kinds[1:]):
        try:
            with contender.start(group[0]) as server:
                trial = Trial(server, contender.name, plan.seconds)
                for pictures in group:
                    requests = contender.make_requests(pictures, tops[pictures.name])
                    for clients in find_clients(pictures, suited, plan):
                        recorder.record(trial.load(pictures.name, requests, clients))
        except (ServerError, ClientError) as exc:
            recorder.report(str(exc))


def measure_service(
    kinds: Sequence[Pictures], tops: dict[str, list[int]], plan: Plan, recorder: Recorder
) -> None:
    """Measure our service like the others, then the calls that only it offers."""
    for group, models_dir in ((kinds[:1], DIGIT_MODELS), (kinds[1:], MODELS)):
        with start_ours(models_dir, group[0].model) as server:
            trial = Trial(server, OURS, plan.seconds)
            for pictures in group:
                requests = make_our_requests(pictures, tops[pictures.name])
                for clients in find_clients(pictures, CLIENTS, plan):
                    recorder.record(trial.load(pictures.name, requests, clients))
            measure_ours(trial, group[0], tops[group[0].name], recorder.record)
            if models_dir == MODELS:
                digits = make_our_requests(kinds[0], tops[kinds[0].name])
                recorder.record(trial.load(BESIDE, digits, max(CLIENTS)))


def measure_default(
    photographs: Sequence[Pictures], tops: dict[str, list[int]], plan: Plan, recorder: Recorder
) -> None:
    """Measure what a user gets who sets nothing: our service in the engine that it chooses."""
    with start_ours(MODELS, photographs[0].model, device="auto") as server:
        trial = Trial(server, OURS_BY_DEFAULT, plan.seconds)
        for pictures in photographs:
            requests = make_our_requests(pictures, tops[pictures.name])
            for clients in find_clients(pictures, CLIENTS, plan):
                recorder.record(trial.load(pictures.name, requests, clients))


def find_clients(pictures: Pictures, suited: Sequence[int], plan: Plan) -> list[int]:
    """The numbers of clients to measure. Large pictures get only the largest, unless `full`."""
    return [n for n in suited if plan.full or pictures.name != "large" or n == max(CLIENTS)]


def measure_masks(cells: Pictures, tops: Sequence[int], plan: Plan, recorder: Recorder) -> None:
    """Measure masks and their maps: the bound, then our service."""
    with start_ours(MASK_MODELS, cells.model) as server:
        trial = Trial(server, OURS, plan.seconds * MASK_TIME)
        recorder.record_all(list(measure_bound(cells, plan.bound_seconds * MASK_TIME)))
        for clients in CLIENTS:
            requests = make_our_requests(cells, tops)
            recorder.record(trial.load(cells.name, requests, clients))
        maps = make_our_requests(cells, tops, "/gradcam", accept=JSON)
        recorder.record(trial.load(f"{cells.name} gradcam json", maps, MEDIUM_CLIENTS))


def measure_start(recorder: Recorder) -> None:
    """Measure the start with the bundled models, and that of an empty BentoML service."""
    with start_ours(growth.BUNDLED, DEFAULT_MODEL, default_model=DEFAULT_MODEL) as server:
        recorder.record(describe_start(server))
    with start_empty() as server:
        recorder.record(describe_start(server))


def describe_start(server: Server) -> Sample:
    """The duration of the start and the memory of the worker."""
    peaks = server.read_peaks()
    figures = {"seconds": server.start_seconds, "worker_mb": peaks[0]}
    return Sample("start", server.name, 0, figures)


def describe_machine() -> dict[str, str]:
    """The machine and the versions of the measurement."""
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
