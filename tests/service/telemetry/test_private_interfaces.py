"""The parts of other packages that `service.telemetry` relies on still work as it expects."""

import os
import subprocess
import sys
from pathlib import Path

from tests.server import ROOT

COUNT_CALLS = """
import os

calls = 0
read_pid = os.getpid


def count_and_read_pid():
    global calls
    calls += 1
    return read_pid()


os.getpid = count_and_read_pid
from service.telemetry import metrics

counter = metrics.get_request_counter("/predict", 200)
calls = 0
counter.inc()
print(calls, counter._value.get())
"""


def test_a_worker_counts_in_the_shared_folder_without_a_system_call(tmp_path: Path) -> None:
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", COUNT_CALLS],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["0", "1.0"], (
        "prometheus_client no longer uses the class in values.ValueClass, which "
        "service/telemetry/metrics.py sets: every count now asks for the process id"
    )
    assert list(tmp_path.glob("counter_*.db")), (
        "prometheus_client no longer writes counter_<pid>.db into PROMETHEUS_MULTIPROC_DIR: "
        "the metrics of several workers are no longer summed"
    )
