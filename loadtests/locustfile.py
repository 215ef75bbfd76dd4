"""Load from Locust: digits to /predict, /gradcam and /predict/batch, with a verdict at the end.

`make load`, or: locust -f loadtests/locustfile.py --headless -u 32 -t 30s -H http://127.0.0.1:3000
"""

import random
from typing import Any

from locust import FastHttpUser, constant_throughput, events, task
from locust.env import Environment

from loadtests.digits import draw_digit
from loadtests.verdict import judge, read_objectives

MODEL = {"model": "lenet5"}
BATCH_SIZE = 8
REQUESTS_PER_SECOND = 5  # of each user, at most


class Client(FastHttpUser):
    """Four in five ask what it is, one in seven why, a few send several at once."""

    wait_time = constant_throughput(REQUESTS_PER_SECOND)

    def on_start(self) -> None:
        """Each user draws digits of its own."""
        self.source = random.Random()  # noqa: S311  # digits need no secrecy

    def draw(self) -> tuple[str, bytes, str]:
        """A form's file."""
        return "digit.png", draw_digit(self.source.randint(0, 9), self.source), "image/png"

    @task(80)
    def predict(self) -> None:
        """`POST /predict`."""
        self.send("/predict", [("image", self.draw())])

    @task(15)
    def gradcam(self) -> None:
        """`POST /gradcam`, a picture."""
        self.send("/gradcam", [("image", self.draw())])

    @task(5)
    def predict_batch(self) -> None:
        """`POST /predict/batch`."""
        self.send("/predict/batch", [("image", self.draw()) for _ in range(BATCH_SIZE)])

    def send(self, path: str, files: Any) -> None:
        """An answer counts only if it is the right kind of answer."""
        with self.client.post(path, data=MODEL, files=files, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {answer.text}")
            elif path == "/gradcam" and not answer.content.startswith(b"\x89PNG"):
                answer.failure("no picture")
            elif path == "/predict" and not answer.json()["predictions"]:
                answer.failure("no predictions")


@events.quitting.add_listener
def give_verdict(environment: Environment, **_: Any) -> None:
    """Print the table; the exit code says whether the objectives were met."""
    measured = {name: entry for (name, _), entry in sorted(environment.stats.entries.items())}
    table, met = judge(measured, read_objectives())
    print(f"\n{table}\n{'All objectives met.' if met else 'Objectives missed.'}")  # noqa: T201
    environment.process_exit_code = 0 if met else 1
