"""A load test with Locust: predictions, maps and batches of small and large pictures.

Run `make load`, or: locust -f loadtests/locustfile.py --headless --shape spike -u 32 -H <url>
"""

import argparse
import random
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, constant_throughput, events, task
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtests.digits import draw_digit
from loadtests.photographs import take_photograph
from loadtests.record import Sample, find_windows, take_sample
from loadtests.shapes import SHAPES, count_users
from loadtests.verdict import (
    advise,
    compare,
    describe_verdict,
    judge,
    make_table,
    read_objectives,
)

BATCH_SIZE = 8
LARGE_SHARE = 0.25
REQUESTS_PER_SECOND = 5  # maximum per user
SAMPLE_SECONDS = 1
MODELS = {"small": "lenet5", "large": "efficientnet_lite0"}


@events.init_command_line_parser.add_listener
def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add our own arguments to those of Locust."""
    shapes = "; ".join(f"{name}: {shape.description}" for name, shape in SHAPES.items())
    parser.add_argument("--shape", choices=list(SHAPES), default="steady", help=shapes)
    parser.add_argument(
        "--model",
        help="model for all pictures, for example lenet5 (default: the two bundled models)",
    )
    parser.add_argument(
        "--report", help="folder for the report (default: runs/load/<time>-<shape>)", default=""
    )


class Client(FastHttpUser):
    """A user: 80 % of its calls are predictions, 15 % are maps and 5 % are batches."""

    wait_time = constant_throughput(REQUESTS_PER_SECOND)

    def on_start(self) -> None:
        """Give each user its own source of pictures."""
        self.source = random.Random()  # noqa: S311  # not used for secrets

    @task(80)
    def predict(self) -> None:
        """`POST /predict`."""
        self.send("/predict", 1)

    @task(15)
    def gradcam(self) -> None:
        """`POST /gradcam`, answered with a picture."""
        self.send("/gradcam", 1)

    @task(5)
    def predict_batch(self) -> None:
        """`POST /predict/batch`."""
        self.send("/predict/batch", BATCH_SIZE)

    def send(self, path: str, count: int) -> None:
        """Send `count` pictures of one size and check the kind of response."""
        size = "large" if self.source.random() < LARGE_SHARE else "small"
        files: Any = [("image", self.make_file(size)) for _ in range(count)]
        data = {"model": self.environment.parsed_options.model or MODELS[size]}
        with self.client.post(
            path, name=f"{path} {size}", data=data, files=files, catch_response=True
        ) as response:
            if response.status_code != 200:
                response.failure(f"{response.status_code}: {response.text}")
            elif path == "/gradcam" and not response.content.startswith(b"\x89PNG"):
                response.failure("the answer is not a picture")
            elif path == "/predict" and not response.json()["predictions"]:
                response.failure("the answer has no predictions")
            elif path == "/predict/batch" and len(response.json()["results"]) != count:
                response.failure("the number of results differs from the number of pictures")

    def make_file(self, size: str) -> tuple[str, bytes, str]:
        """One file of a form."""
        if size == "small":
            return "digit.png", draw_digit(self.source.randint(0, 9), self.source), "image/png"
        return "photograph.jpg", take_photograph(self.source), "image/jpeg"


class NamedShape(LoadTestShape):
    """The shape that `--shape` names; `--run-time` sets its duration."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """The number of users now, and how many may start per second."""
        assert self.runner
        options: Any = self.runner.environment.parsed_options
        run_seconds = options.run_time or SHAPES[options.shape].seconds
        seconds: float = self.get_run_time()  # type: ignore[no-untyped-call]
        users = count_users(options.shape, options.num_users, seconds, run_seconds)
        return None if users is None else (users, max(options.spawn_rate, options.num_users))


samples: list[Sample] = []


@events.test_start.add_listener
def start_sampling(environment: Environment, **_: Any) -> None:
    """Sample every second, in the process that sees all requests."""
    if not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(sample_forever, environment)


def sample_forever(environment: Environment) -> None:
    """Append samples until the process ends."""
    started = time.perf_counter()
    while True:
        seconds = time.perf_counter() - started
        users = environment.runner.user_count if environment.runner else 0
        samples.append(take_sample(seconds, users, environment.stats.total))
        gevent.sleep(SAMPLE_SECONDS)


@events.quitting.add_listener
def report_verdict(environment: Environment, **_: Any) -> None:
    """Print the table, write the report, and set the exit code."""
    if isinstance(environment.runner, WorkerRunner):
        return
    from loadtests import page  # matplotlib loads slowly, and only the end needs it

    options: Any = environment.parsed_options
    entries = {name: entry for (name, _), entry in environment.stats.entries.items()}
    rows = compare(entries, read_objectives())
    curves = {
        name: [entry.get_response_time_percentile(share) for share in page.SHARES]
        for name, entry in entries.items()
    }
    now = datetime.now().astimezone()
    folder = Path(options.report or f"runs/load/{now:%Y-%m-%d-%H%M%S}-{options.shape}")
    users = f"at most {options.num_users} users"
    about = (
        f"{SHAPES[options.shape].description}; {users}, {environment.host}, {now:%Y-%m-%d %H:%M}"
    )
    page.write(
        page.Run(f"Load, {options.shape}", about, rows, curves, find_windows(samples)), folder
    )
    advice = advise(rows, options.run_time or SHAPES[options.shape].seconds)
    verdict = f"{describe_verdict(rows)}\n{advice}{folder / 'verdict.html'}"
    print(f"\n{make_table(rows)}\n{verdict}")  # noqa: T201
    environment.process_exit_code = judge(rows)
