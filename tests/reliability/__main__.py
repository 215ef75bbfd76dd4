"""The measurements of docs/explanation/reliability.md: all of them, or one by its name.

Each measurement prints its figures and whether they are within its bounds. It writes the figures to
runs/reliability. The exit code is 1 if a bound is missed.
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.attacks.registry import ATTACKS
from tests.attacks.run import FULL, run_attack
from tests.contract.artifacts import wait_loaded
from tests.reliability import (
    fuzz,
    limits,
    loss,
    malice,
    odd_pictures,
    overload,
    schema_fuzz,
    servers,
    versions,
)
from tests.reliability.servers import SIGHTGLASS, STOCK, SUBJECTS
from tests.reliability.soak import soak
from tests.reliability.soak_plot import summarise
from tests.server import ROOT, LaunchedServer, Server, start_server
from tests.service.quadrants_model import write_model

REPORTS = ROOT / "runs" / "reliability"
PICTURE = ROOT / "docs" / "pictures" / "soak.png"
MUTATED, STOCK_MUTATED, DESCRIBED = 14_000, 1_000, 170  # requests; DESCRIBED is per operation
PASSES = 3
ALLOWED_GROWTH = 16 << 20  # bytes from the peak of one pass to the next; 1.2 kB per request
OVERLOAD_SECONDS, OVERLOAD_ROUNDS = 6.0, 6  # short rounds, as the machine's load varies


class Found(NamedTuple):
    """Figures, and which of them are out of bounds."""

    figures: Any
    missed: list[str]


def measure_fuzz(subject: str, folder: Path) -> Found:
    """Send damaged pictures to every call. Several passes with the same requests show a leak."""
    pictures = fuzz.gather_pictures()
    if subject == STOCK:
        make = partial(fuzz.make_stock_requests, 0, pictures)
        with servers.start(STOCK, folder) as server:
            passes = fuzz_again(server, make, STOCK_MUTATED, REPORTS / "failed-stock")
        return Found([one._replace(faults=one.faults[:5])._asdict() for one in passes], [])
    models = folder / "models"
    shutil.copytree(ROOT / "models", models)
    write_model(models / "quadrants" / "1" / "model.onnx")
    make = partial(fuzz.make_requests, 0, pictures, ["lenet5", "quadrants"])
    with servers.start(SIGHTGLASS, folder, models_dir=models) as server:
        wait_loaded(server)
        passes = fuzz_again(server, make, MUTATED, REPORTS / "failed")
    missed = [fault for one in passes for fault in one.faults][:10]
    if not all(one.workers_kept for one in passes):
        missed.append("a worker died")
    if (grown := passes[-1].peak - passes[-2].peak) > ALLOWED_GROWTH:
        missed.append(f"the same {MUTATED} requests took {grown} bytes more once more")
    return Found([one._asdict() for one in passes], missed)


def fuzz_again(
    server: Server, make: Callable[[], Callable[[], bytes]], requests: int, failures: Path
) -> list[fuzz.Fuzzed]:
    """Repeat the same requests. `make` starts them again for each pass."""
    return [asyncio.run(fuzz.fuzz(server, make(), requests, failures)) for _ in range(PASSES)]


def measure_described(_: str, folder: Path) -> Found:
    """Send requests generated from the OpenAPI document."""
    with start_tiny(folder) as server:
        server.wait_ready()
        got = schema_fuzz.fuzz_described(server, DESCRIBED)
    return Found(got._asdict(), got.faults)


def measure_odd(_: str, folder: Path) -> Found:
    """Send Pillow's odd pictures. This needs the data sets."""
    data = os.environ.get("SIGHTGLASS_DATA")
    if not data:
        return Found("skipped: set SIGHTGLASS_DATA to the data sets' folder", [])
    with servers.start(SIGHTGLASS, folder) as server:
        got = odd_pictures.ask_each(server, Path(data))
    return Found(got, [str(one) for one in got if one.status >= 500])


def measure_malice(_: str, folder: Path) -> Found:
    """Run malicious clients together with a well-behaved client."""
    with start_tiny(folder, request_timeout_ms=5000) as server:
        server.wait_ready()
        results, absurd = malice.run_all_attacks(server)
    missed = [str(one) for one in results if one.unanswered or one.left]
    missed += [f"{what}: {end}" for what, end in absurd.items() if end.startswith("5")]
    return Found({"attacks": [one._asdict() for one in results], "absurd": absurd}, missed)


def measure_attacks(_: str, folder: Path) -> Found:
    """Run every attack at full size, each against a server of its own."""
    figures, missed = {}, []
    for name, attack in ATTACKS.items():
        own = folder / name.replace(" ", "-")
        own.mkdir()
        observed, sentences = run_attack(attack, own, FULL)
        figures[name] = observed.describe()
        missed += sentences
    return Found(figures, missed)


def measure_limits(subject: str, folder: Path) -> Found:
    """Measure the memory under excessive requests."""
    with servers.start(subject, folder) as server:
        got = limits.measure(server, subject)
    missed = [] if subject == STOCK else [str(one) for one in got if one.grown > limits.BOUND]
    return Found([one._asdict() for one in got], missed)


def measure_overload(subject: str, folder: Path) -> Found:
    """Offer two and five times the capacity."""
    with servers.start(subject, folder) as server:
        got = overload.run(server, subject, OVERLOAD_SECONDS, OVERLOAD_ROUNDS)
    return Found(got, [] if subject == STOCK else overload.find_missed(got))


def measure_stop(subject: str, folder: Path) -> Found:
    """Send SIGTERM under load."""
    if subject == STOCK:
        with servers.start(STOCK, folder) as server:
            got = loss.stop_alone(server, *loss.learn_quarters(server, STOCK))
        return Found(got._asdict(), [])
    with start_tiny(folder) as server:
        server.wait_ready()
        got = loss.stop_alone(server, loss.make_quarters(), [0, 1, 2, 3])
    return Found(got._asdict(), [str(got)] if got.lost else [])


def measure_rolling(_: str, folder: Path) -> Found:
    """Restart two instances behind nginx one after the other."""
    write_model(folder / "models" / "quadrants" / "1" / "model.onnx")
    got = loss.restart_rolling(folder / "models", folder)
    return Found(got._asdict(), [str(got)] if got.lost else [])


def measure_kill(_: str, folder: Path) -> Found:
    """Kill one of two workers."""
    with start_tiny(folder, workers=2) as server:
        server.wait_ready()
        loss.wait_workers(server, 2)
        got = loss.kill_worker(server, loss.make_quarters(), [0, 1, 2, 3])
    lost = sum(got.loss.lost.values())
    missed = []
    if lost > got.in_flight or got.lost_later:
        missed.append(f"{lost} lost, {got.lost_later} of them sent after its death")
    if got.replaced_seconds > 12:
        missed.append(f"replaced after {got.replaced_seconds:.1f} s")
    return Found(got._asdict(), missed)


def measure_hang(_: str, folder: Path) -> Found:
    """Stop one of two workers without ending it. Its requests wait until it is killed."""
    with start_tiny(folder, workers=2) as server:
        server.wait_ready()
        loss.wait_workers(server, 2)
        got = loss.kill_worker(server, loss.make_quarters(), [0, 1, 2, 3], signal.SIGSTOP)
    missed = []
    if got.replaced_seconds > 36:  # 24 until it is killed, 12 as for any dead worker
        missed.append(f"replaced after {got.replaced_seconds:.1f} s")
    return Found(got._asdict(), missed)


def measure_versions(_: str, folder: Path) -> Found:
    """Add, change, break and remove versions under load."""
    with start_tiny(folder, model_poll_seconds=0.5) as server:
        server.wait_ready()
        got = versions.deploy(server, folder / "models", folder)
    missed = [*got.failed[:5], *got.mixed_up[:5]]
    if got.answered_by != ["1", "2.1", "2.2", "2.3", "1"]:
        missed.append(f"answered by {got.answered_by}")
    return Found(got._asdict(), missed)


def start_tiny(folder: Path, **settings: Any) -> AbstractContextManager[LaunchedServer]:
    """Start Sightglass with the quadrants model only."""
    write_model(folder / "models" / "quadrants" / "1" / "model.onnx")
    return start_server(folder / "models", folder, **settings)


MEASUREMENTS: dict[str, Callable[[str, Path], Found]] = {
    "fuzz": measure_fuzz,
    "described": measure_described,
    "odd": measure_odd,
    "malice": measure_malice,
    "attacks": measure_attacks,
    "limits": measure_limits,
    "overload": measure_overload,
    "stop": measure_stop,
    "rolling": measure_rolling,
    "kill": measure_kill,
    "hang": measure_hang,
    "versions": measure_versions,
}
OF_STOCK = ("fuzz", "limits", "overload", "stop")


def main() -> None:
    """Run the requested measurements."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("measurement", choices=["all", *MEASUREMENTS, "soak"])
    parser.add_argument("--subject", choices=SUBJECTS, default=SIGHTGLASS)
    parser.add_argument("--minutes", type=float, default=60, help="of a soak")
    options = parser.parse_args()
    REPORTS.mkdir(parents=True, exist_ok=True)
    if options.measurement == "soak":
        soak(options.subject, options.minutes, REPORTS / f"soak-{options.subject}.jsonl")
        print(summarise(REPORTS, PICTURE))
        return
    wanted = [*MEASUREMENTS] if options.measurement == "all" else [options.measurement]
    if options.subject == STOCK:
        wanted = [name for name in wanted if name in OF_STOCK]
    missed = [name for name in wanted if not measure(name, options.subject)]
    print(f"Out of bounds: {', '.join(missed)}." if missed else "All within bounds.")
    sys.exit(bool(missed))


def measure(name: str, subject: str) -> bool:
    """Run one measurement, print and save its figures. Return whether it is within its bounds."""
    with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
        found = MEASUREMENTS[name](subject, Path(folder))
    text = json.dumps(found.figures, indent=1, default=str)
    (REPORTS / f"{name}-{subject}.json").write_text(text + "\n")
    print(f"== {name}, {subject}\n{text}", flush=True)
    for sentence in found.missed:
        print(f"   out of bounds: {sentence}", flush=True)
    return not found.missed


if __name__ == "__main__":
    main()
