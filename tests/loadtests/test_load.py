"""The load test runs against the real service and gives a verdict, a report and an exit code."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from loadtests.record import Sample, find_percentile, find_windows
from loadtests.shapes import count_users
from loadtests.verdict import compare, is_met, read_objectives
from tests.contract.artifacts import wait_loaded
from tests.server import PATIENCE, ROOT, Server, find_free_port

OBJECTIVES = {"error_rate": 0.0, "latency": {"/predict": {"p99": 1000}}}
ENDPOINTS = [f"{path} {size}" for path in ("/predict", "/gradcam") for size in ("small", "large")]
LOCUST = [sys.executable, "-m", "locust", "-f", "loadtests/locustfile.py", "--headless"]


@dataclass
class Entry:
    """An endpoint with the same time for all requests."""

    milliseconds: float
    num_requests: int = 100
    num_failures: int = 0

    def get_response_time_percentile(self, percent: float) -> float:
        """The same for every share."""
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
def test_the_objectives_are_met_only_if_each_one_is(entry: Entry, met: bool) -> None:
    assert met == is_met(compare({"/predict": entry}, OBJECTIVES))


def test_without_a_measurement_no_objective_is_met() -> None:
    assert not is_met(compare({}, OBJECTIVES))


def test_every_endpoint_has_all_three_objectives() -> None:
    latency = read_objectives()["latency"]
    assert {*ENDPOINTS, "/predict/batch small", "/predict/batch large"} == set(latency)
    assert {("p50", "p95", "p99")} == {tuple(limits) for limits in latency.values()}


@pytest.mark.parametrize(
    ("shape", "users"),
    [
        ("steady", [40, 40, 40, 40]),
        ("ramp", [4, 13, 22, 40]),
        ("spike", [4, 4, 40, 4]),
        ("soak", [20, 20, 20, 20]),
    ],
)
def test_a_shape_gives_the_users_that_its_name_says(shape: str, users: list[int]) -> None:
    times = (0, 25, 50, 99.9)
    assert users == [count_users(shape, 40, seconds, 100) for seconds in times]
    assert count_users(shape, 40, 100, 100) is None
    assert count_users(shape, 1, 0, 100) == 1


def test_a_window_is_the_difference_of_two_samples() -> None:
    samples = [
        Sample(0, 0, 0, 0, {}),
        Sample(1, 2, 10, 0, {5: 9, 80: 1}),
        Sample(2, 4, 30, 3, {5: 9, 80: 1, 7: 20}),
        Sample(3, 4, 30, 3, {5: 9, 80: 1, 7: 20}),
    ]
    first, second, idle = find_windows(samples)
    assert (first.rate, first.failures, first.percentiles) == (10, 0, (5, 80, 80))
    assert (second.rate, second.failures, second.users, second.percentiles) == (20, 3, 4, (7, 7, 7))
    assert (idle.rate, idle.percentiles) == (0, ())


def test_a_percentile_is_the_smallest_time_that_covers_its_share() -> None:
    times = {1: 50, 2: 45, 9: 4, 100: 1}
    assert [find_percentile(times, share) for share in (0.5, 0.95, 0.99, 1)] == [1, 2, 9, 100]


@pytest.fixture
def loaded(bundled_worker: Server) -> Server:
    """The service after it has loaded all bundled models."""
    wait_loaded(bundled_worker)
    return bundled_worker


def start_locust(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start Locust with these arguments. Its report goes into `folder`."""
    command = [*LOCUST, "--only-summary", "--report", str(folder), *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=ROOT, **pipes)  # type: ignore[call-overload, no-any-return]


def run_locust(url: str, folder: Path, seconds: int) -> tuple[str, int]:
    """Run Locust with four users for `seconds`. Return its output and exit code."""
    process = start_locust(folder, "-u", "4", "-t", f"{seconds}s", "-H", url)
    return process.communicate(timeout=PATIENCE)[0], process.returncode


def read_rows(output: str) -> dict[str, list[str]]:
    """The rows of the table by endpoint: requests, failures and the other columns."""
    lines = [line for line in output.splitlines() if re.search(r"  (met|missed: .*)$", line)]
    return {" ".join(line.split()[:2]): line.split()[2:] for line in lines}


def test_every_endpoint_is_called_without_an_error(loaded: Server, tmp_path: Path) -> None:
    output, exit_code = run_locust(loaded.url, tmp_path, 6)
    rows = read_rows(output)
    assert int(rows["/predict small"][0]) > 0, output
    assert {"0"} == {row[1] for row in rows.values()}, output
    assert ("All objectives met." in output) == (exit_code == 0)
    page = (tmp_path / "verdict.html").read_text()
    assert page.count("<svg") == 2
    assert "Load, steady" in page
    for name in ("verdict.md", "verdict.html"):
        assert all(endpoint in (tmp_path / name).read_text() for endpoint in rows)


@pytest.mark.slow
def test_two_workers_share_the_load_of_one_master(loaded: Server, tmp_path: Path) -> None:
    port = str(find_free_port())
    master = ["--master", "--expect-workers", "2", "-u", "4", "-t", "6s", "-H", loaded.url]
    master += ["--master-bind-port", port, "--shape", "ramp"]
    processes = [start_locust(tmp_path, *master)]
    processes += [start_locust(tmp_path, "--worker", "--master-port", port) for _ in range(2)]
    output = processes[0].communicate(timeout=PATIENCE)[0]
    for worker in processes[1:]:
        worker_output = worker.communicate(timeout=PATIENCE)[0]
        assert "verdict" not in worker_output
    assert int(read_rows(output)["/predict small"][0]) > 0, output
    assert "Load, ramp" in (tmp_path / "verdict.html").read_text()


def test_the_load_test_fails_if_no_service_runs(tmp_path: Path) -> None:
    output, exit_code = run_locust("http://127.0.0.1:9", tmp_path, 2)
    assert exit_code == 1
    assert "Objectives missed" in output
    assert "missed" in (tmp_path / "verdict.md").read_text()
