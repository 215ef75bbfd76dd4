"""The load test against the real service: its verdict, and its exit code."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtests.verdict import judge, read_objectives
from tests.server import ROOT, Server, start_server

LOOSE = {"error_rate": 0.0, "latency": {"/predict": {"p99": 1000}}}


@dataclass
class Entry:
    """An endpoint whose requests all took as long."""

    milliseconds: float
    num_requests: int = 100
    num_failures: int = 0

    def get_response_time_percentile(self, percent: float) -> float:
        """The same for all."""
        return self.milliseconds * (0 < percent <= 1)


@pytest.mark.parametrize(
    ("entry", "met"),
    [
        (Entry(10), True),
        (Entry(1001), False),
        (Entry(10, num_failures=1), False),
        (Entry(10, num_requests=0), False),
    ],
)
def test_the_verdict_is_met_only_within_every_objective(entry: Entry, met: bool) -> None:
    assert met == judge({"/predict": entry}, LOOSE)[1]


def test_no_measurement_meets_nothing() -> None:
    assert not judge({}, LOOSE)[1]


def test_objectives_name_every_endpoint_that_is_driven() -> None:
    assert {"/predict", "/gradcam", "/predict/batch"} == set(read_objectives()["latency"])


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service with the bundled models."""
    with start_server(ROOT / "models", tmp_path_factory.mktemp("server")) as server:
        server.wait_ready()
        yield server


def run_locust(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Four users for three seconds."""
    command = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"]
    command += ["--only-summary", "-u", "4", "-r", "4", "-t", "3s", "-H", url]
    environment = os.environ | {"HOME": str(folder)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_every_endpoint_is_driven_without_an_error(bundled: Server, tmp_path: Path) -> None:
    ran = run_locust(bundled.url, tmp_path)
    rows = {line.split()[0]: line.split() for line in ran.stdout.splitlines() if line[:1] == "/"}
    for endpoint in ("/predict", "/gradcam"):
        assert int(rows[endpoint][1]) > 0, ran.stdout + ran.stderr
    assert {"0"} == {row[2] for row in rows.values()}
    assert ("All objectives met." in ran.stdout) == (ran.returncode == 0)


def test_a_service_that_is_not_there_fails_the_load_test(tmp_path: Path) -> None:
    ran = run_locust("http://127.0.0.1:9", tmp_path)
    assert ran.returncode == 1
    assert "Objectives missed." in ran.stdout
