"""Load from Locust: predictions, maps and batches of small and large pictures, with a verdict.

`make load`, or: locust -f loadtests/locustfile.py --headless --shape spike -u 32 -H <url>
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
from loadtests.verdict import is_met, judge, make_table, read_objectives, tell_verdict

BATCH_SIZE = 8
LARGE_SHARE = 0.25
REQUESTS_PER_SECOND = 5  # of each user, at most
SAMPLE_SECONDS = 1
MODELS = {"small": "lenet5", "large": "squeezenet1_1"}


@events.init_command_line_parser.add_listener
def take_arguments(parser: argparse.ArgumentParser) -> None:
    """What Locust itself does not know."""
    told = "; ".join(f"{name}: {shape.tells}" for name, shape in SHAPES.items())
    parser.add_argument("--shape", choices=list(SHAPES), default="steady", help=told)
    parser.add_argument("--model", help="one model for all pictures (default: the bundled two)")
    parser.add_argument(
        "--report", help="folder of the page (default: runs/load/<time>-<shape>)", default=""
    )


class Client(FastHttpUser):
    """Four in five ask what it is, one in seven why, a few send several at once."""

    wait_time = constant_throughput(REQUESTS_PER_SECOND)

    def on_start(self) -> None:
        """Each user takes pictures of its own."""
        self.source = random.Random()  # noqa: S311  # pictures need no secrecy

    @task(80)
    def predict(self) -> None:
        """`POST /predict`."""
        self.send("/predict", 1)

    @task(15)
    def gradcam(self) -> None:
        """`POST /gradcam`, a picture."""
        self.send("/gradcam", 1)

    @task(5)
    def predict_batch(self) -> None:
        """`POST /predict/batch`."""
        self.send("/predict/batch", BATCH_SIZE)

    def send(self, path: str, count: int) -> None:
        """Ask with so many pictures of one kind; only the right kind of answer counts."""
        size = "large" if self.source.random() < LARGE_SHARE else "small"
        files: Any = [("image", self.take(size)) for _ in range(count)]
        data = {"model": self.environment.parsed_options.model or MODELS[size]}
        with self.client.post(
            path, name=f"{path} {size}", data=data, files=files, catch_response=True
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {answer.text}")
            elif path == "/gradcam" and not answer.content.startswith(b"\x89PNG"):
                answer.failure("no picture")
            elif path == "/predict" and not answer.json()["predictions"]:
                answer.failure("no predictions")
            elif path == "/predict/batch" and len(answer.json()["results"]) != count:
                answer.failure("not as many results as pictures")

    def take(self, size: str) -> tuple[str, bytes, str]:
        """A form's file."""
        if size == "small":
            return "digit.png", draw_digit(self.source.randint(0, 9), self.source), "image/png"
        return "photograph.jpg", take_photograph(self.source), "image/jpeg"


class Chosen(LoadTestShape):
    """The shape that the command names; `--run-time` overrides how long it takes."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Users wanted now, and how fast they may come."""
        assert self.runner
        options: Any = self.runner.environment.parsed_options
        run_seconds = options.run_time or SHAPES[options.shape].seconds
        seconds: float = self.get_run_time()  # type: ignore[no-untyped-call]
        users = count_users(options.shape, options.num_users, seconds, run_seconds)
        return None if users is None else (users, max(options.spawn_rate, options.num_users))


samples: list[Sample] = []


@events.test_start.add_listener
def start_sampling(environment: Environment, **_: Any) -> None:
    """Note every second how things stand, where all requests are seen."""
    if not isinstance(environment.runner, WorkerRunner):
        gevent.spawn(sample, environment)


def sample(environment: Environment) -> None:
    """Until the process ends."""
    started = time.perf_counter()
    while True:
        seconds = time.perf_counter() - started
        users = environment.runner.user_count if environment.runner else 0
        samples.append(take_sample(seconds, users, environment.stats.total))
        gevent.sleep(SAMPLE_SECONDS)


@events.quitting.add_listener
def give_verdict(environment: Environment, **_: Any) -> None:
    """Print the table, write the page; the exit code says whether the objectives were met."""
    if isinstance(environment.runner, WorkerRunner):
        return
    from loadtests import page  # matplotlib is heavy, and only wanted once the load is over

    options: Any = environment.parsed_options
    entries = {name: entry for (name, _), entry in environment.stats.entries.items()}
    rows = judge(entries, read_objectives())
    shares = {
        name: [entry.get_response_time_percentile(share) for share in page.SHARES]
        for name, entry in entries.items()
    }
    now = datetime.now().astimezone()
    folder = Path(options.report or f"runs/load/{now:%Y-%m-%d-%H%M%S}-{options.shape}")
    users = f"at most {options.num_users} users"
    about = f"{SHAPES[options.shape].tells}; {users}, {environment.host}, {now:%Y-%m-%d %H:%M}"
    page.write(
        page.Run(f"Load, {options.shape}", about, rows, shares, find_windows(samples)), folder
    )
    print(f"\n{make_table(rows)}\n{tell_verdict(rows)}\n{folder / 'verdict.html'}")  # noqa: T201
    environment.process_exit_code = 0 if is_met(rows) else 1
