"""Measures a GPU: run `python -m benchmarks.gpu` on a machine that has one.

It prints the providers and the provider of each node. It measures ResNet-50 in 32 and 16 bits in
process, by batch size, with and without bound memory and captured graphs, explained and plain. Then
it compares the service with the slower of the GPU and the decoding cores. Everything compared is
measured alternately, and each figure is the median of several rounds. `--on cpu` tests the script.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.client import Request, make_form, post, send_load
from benchmarks.material import (
    CACHE,
    ROOT,
    find_data,
    find_model,
    import_network,
    make_photographs,
)
from benchmarks.server import start_server
from service.artifact.card import Artifact
from service.artifact.validation import read_artifact
from service.imaging.decoding import decode_image, open_image
from service.machine import count_cores
from service.runtime.cuda import CPU, CUDA, BoundSession, Tuning, open_bound
from service.runtime.engine import Outputs
from service.runtime.session import has_cuda

PAGE = ROOT / "docs" / "explanation" / "benchmarks-gpu.md"
MODELS = CACHE / "gpu-models"
PRECISIONS = {"fp32": "resnet50", "fp16": "resnet50-fp16"}  # the names of the models
BATCHES = (1, 8, 32)
TUNINGS = {
    "graphs": Tuning(),
    "graphs, channels last": Tuning(nhwc=True),
    "bound": Tuning(graphs=False),
    "plain": Tuning(graphs=False, bound=False),
}
WORKERS = (1, 2, 4, 8)
CONNECTIONS = 256
MAX_PIXELS = 1 << 24
Run = Callable[[NDArray[np.uint8], NDArray[np.int64]], Outputs]
Figures = dict[str, Any]


def main() -> int:
    """Measure, print and write the page."""
    parser = argparse.ArgumentParser("benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--models", type=Path, default=MODELS, help="folder of models with both ResNet-50"
    )
    parser.add_argument(
        "--on", choices=["cuda", "cpu"], default="cuda", help="cpu is a dry run of the script"
    )
    parser.add_argument(
        "--seconds", type=float, default=5, help="seconds per measurement, for example 2"
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.on == "cuda" and not has_cuda():
        say(
            "There is no GPU to measure, because onnxruntime has no CUDA provider or the machine "
            "has no driver. Use `--on cpu` to test the script."
        )
        return 2
    if arguments.on == "cuda":
        ort.preload_dlls()
    figures = {"device": name_device(arguments.on), "cores": count_cores()}
    say(f"{figures['device']}, {figures['cores']} cores, onnxruntime {ort.__version__}")
    say(f"providers: {', '.join(ort.get_available_providers())}")
    make_models(arguments.models)
    each = arguments.seconds / arguments.rounds
    for precision, name in PRECISIONS.items():
        artifact, content = read_artifact(arguments.models / name / "1" / "model.onnx")
        figures[precision] = measure_model(content, artifact, arguments.on, arguments.rounds, each)
    figures["decode"] = measure_decoding(artifact, arguments.rounds, each)
    say(f"decoding: {figures['decode']:.0f} images/s on all cores")
    figures["served"] = measure_served(arguments.models, arguments.on, arguments.rounds, each)
    path = CACHE / "gpu.json"
    path.write_text(json.dumps(figures, indent=1))
    page = make_page(figures)
    say(page)
    if arguments.on == "cuda":
        PAGE.write_text(page)
    return 0


def name_device(on: str) -> str:
    """The name that the driver gives the GPU."""
    if on == "cpu":
        return f"a CPU ({platform.machine()})"
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    result = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    return result.stdout.strip().splitlines()[0] if result.returncode == 0 else "a GPU"


def make_models(tree: Path) -> None:
    """Export missing models. With `SIGHTGLASS_DATA` they get trained weights."""
    data = find_data()
    weights = data and data / "weights" / "resnet50_imagenet.npz"
    trained = ("--weights", str(weights)) if weights and weights.exists() else ()
    for precision, name in PRECISIONS.items():
        if not find_model(name, tree).exists():
            import_network("resnet50", tree, name, "--precision", precision, *trained)


def measure_model(
    content: bytes, artifact: Artifact, on: str, rounds: int, seconds: float
) -> Figures:
    """Measure the provider of each node, images per second, and the cost of explanations."""
    placed = find_placement(content, artifact, on)
    say(f"nodes by provider: {placed}")
    sessions = {name: open_model(content, artifact, on, tuning) for name, tuning in TUNINGS.items()}
    rates: dict[str, dict[str, float]] = {}
    for size in BATCHES:
        image, targets = make_batch(artifact, size)
        runs = {name: (session.run, image, targets) for name, session in sessions.items()}
        rates[str(size)] = {
            name: size / spent for name, spent in time_in_turn(runs, rounds, seconds).items()
        }
        say(f"batch {size}: " + ", ".join(f"{n} {r:.0f}/s" for n, r in rates[str(size)].items()))
    image, targets = make_batch(artifact, BATCHES[-1])
    best = max(rates[str(BATCHES[-1])].items(), key=lambda pair: pair[1])[0]
    run = sessions[best].run
    spent = time_in_turn(
        {"explained": (run, image, targets), "plain": (run, image, targets[:, :0])}, rounds, seconds
    )
    ratio = spent["explained"] / spent["plain"]
    say(f"explained / plain at batch {BATCHES[-1]}: {ratio:.3f}")
    return {"placement": placed, "rates": rates, "best": best, "explained_over_plain": ratio}


def open_model(content: bytes, artifact: Artifact, on: str, tuning: Tuning) -> BoundSession:
    """Open the model as the service does."""
    if on == "cuda":
        return open_bound(content, artifact, BATCHES[-1], ort.SessionOptions(), tuning)
    session = ort.InferenceSession(content, providers=[CPU])
    return BoundSession(session, artifact, BATCHES[-1], tuning.bound)


def make_batch(artifact: Artifact, size: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Random pixels, since zeros are too easy, and each row's own top-1 to explain."""
    spec = artifact.card.input
    shape = (size, spec.height, spec.width, spec.channels)
    image = np.random.default_rng(size).integers(0, 256, shape, np.uint8)
    return image, np.full((size, 1), -1, np.int64)


def time_in_turn(
    runs: Mapping[str, tuple[Run, NDArray[np.uint8], NDArray[np.int64]]],
    rounds: int,
    seconds: float,
) -> dict[str, float]:
    """Seconds of one run of each, the median of rounds in which all took turns, after a warm-up.

    A run returns arrays on the host, so the GPU has finished when the clock is read.
    """
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for run, image, target in runs.values():
        for _ in range(3):
            run(image, target)
    for _ in range(rounds):
        for name, (run, image, target) in runs.items():
            end = time.perf_counter() + seconds / len(runs)
            times: list[float] = []
            while not times or time.perf_counter() < end:
                started = time.perf_counter()
                run(image, target)
                times.append(time.perf_counter() - started)
            spent[name].append(median(times))
    return {name: median(times) for name, times in spent.items()}


def find_placement(content: bytes, artifact: Artifact, on: str) -> dict[str, dict[str, int]]:
    """How many nodes of each operator ran on each provider, by onnxruntime's own profile."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(content, options, [CUDA, CPU] if on == "cuda" else [CPU])
        image, target = make_batch(artifact, 2)
        session.run(None, {"image": image, "target": target})
        events = json.loads(Path(session.end_profiling()).read_text())
    placed: dict[str, Counter[str]] = {}
    for name, told in {
        event["name"]: event["args"]
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }.items():
        assert name
        placed.setdefault(told["provider"], Counter())[told["op_name"]] += 1
    return {provider: dict(operators) for provider, operators in placed.items()}


def measure_decoding(artifact: Artifact, rounds: int, seconds: float) -> float:
    """Photographs of 500 x 375 that all cores decode to the model's input per second."""
    files = make_photographs("photo", 500, 375).files
    spec = artifact.card.input

    def decode(number: int) -> None:
        decode_image(open_image(files[number % len(files)], MAX_PIXELS), spec)

    rates = []
    with ThreadPoolExecutor(count_cores()) as threads:
        for _ in range(rounds):
            count, started = 0, time.perf_counter()
            while (spent := time.perf_counter() - started) < seconds or not count:
                list(threads.map(decode, range(count, count + 64)))
                count += 64
            rates.append(count / spent)
    return median(rates)


def measure_served(tree: Path, on: str, rounds: int, seconds: float) -> dict[str, float]:
    """Predictions per second of ResNet-50 in 16 bits over HTTP, by number of workers."""
    requests = make_requests(PRECISIONS["fp16"])
    rates: dict[str, list[float]] = {}
    for _ in range(min(rounds, 3)):
        for workers in WORKERS:
            if workers > max(count_cores() // 2, 1):
                continue
            environment = {
                "SIGHTGLASS_MODELS_DIR": str(tree),
                "SIGHTGLASS_DEFAULT_MODEL": PRECISIONS["fp16"],
                "SIGHTGLASS_DEVICE": on,
                "SIGHTGLASS_WORKERS": str(workers),
                "SIGHTGLASS_MAX_QUEUE_SIZE": str(2 * CONNECTIONS),
            }
            command = [sys.executable, "-m", "service", "serve", "--port", "{port}"]
            with start_server("gpu", command, ROOT, environment, "/readyz") as server:
                load = send_load(
                    server.port, requests, CONNECTIONS, max(seconds, 1), max(seconds, 1)
                )
            assert not load.errors, load.fault
            rates.setdefault(str(workers), []).append(load.answers / max(seconds, 1))
            say(f"served with {workers} workers: {rates[str(workers)][-1]:.0f}/s")
    return {workers: median(each) for workers, each in rates.items()}


def make_requests(model: str) -> list[Request]:
    """Make a `POST /predict` for each photograph, as curl sends it."""
    requests = []
    for file in make_photographs("photo", 500, 375).files:
        body, media_type = make_form("image", [file])
        message = post(f"/predict?model={model}", body, {"Content-Type": media_type})
        requests.append(Request(message, b'"predictions"'))
    return requests


def make_page(figures: Figures) -> str:
    """The figures as Markdown."""
    names = list(TUNINGS)
    lines = [
        "# On a GPU",
        "",
        f"Written by `make bench-gpu` on {figures['device']} with {figures['cores']} cores. "
        "ResNet-50, 224 x 224, images a second; what is compared was measured in turn.",
        "",
        f"| precision, batch | {' | '.join(names)} |",
        f"|---|{'--:|' * len(names)}",
    ]
    for precision in PRECISIONS:
        for size, rates in figures[precision]["rates"].items():
            cells = " | ".join(f"{rates[name]:,.0f}" for name in names)
            lines.append(f"| {precision}, {size} | {cells} |")
    bound = max(figures["fp16"]["rates"][str(BATCHES[-1])].values())
    limit = min(bound, figures["decode"])
    lines += [
        "",
        *(
            f"- {precision}: explained / plain at batch {BATCHES[-1]}: "
            f"{figures[precision]['explained_over_plain']:.3f}; nodes by provider: "
            + ", ".join(
                f"{p} {sum(o.values())}" for p, o in figures[precision]["placement"].items()
            )
            for precision in PRECISIONS
        ),
        f"- Decoding 500 x 375 on all cores: {figures['decode']:,.0f} images a second.",
        *describe_served(figures["served"], limit),
        "",
    ]
    return "\n".join(lines)


def describe_served(served: dict[str, float], limit: float) -> Sequence[str]:
    """Compare the rates over HTTP with the smaller bound."""
    return [
        f"- Served with {workers} workers: {rate:,.0f} a second, {rate / limit:.2f} of the smaller "
        "bound."
        for workers, rate in served.items()
    ]


def say(text: str) -> None:
    """Print progress."""
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
