"""GitHub's workflow runs the targets of the Makefile, on the Pythons and systems that are named."""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from tests.server import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "checks.yml"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def read_jobs() -> dict[str, dict[str, Any]]:
    jobs: dict[str, dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text())["jobs"]
    return jobs


def find_commands(job: dict[str, Any]) -> Iterator[str]:
    """The lines of its steps."""
    for step in job["steps"]:
        yield from step.get("run", "").splitlines()


def test_every_target_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    used = {
        line.split()[1]
        for job in read_jobs().values()
        for line in find_commands(job)
        if line.startswith("make ")
    }
    assert used == {"test", "test-slow", "audit", "wheel", "image", "sbom"}
    assert used <= targets


def test_the_tests_run_on_each_python_and_system() -> None:
    matrix = read_jobs()["test"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert [system.split("-")[0] for system in matrix["system"]] == ["ubuntu", "ubuntu", "macos"]
    assert any(system.endswith("-arm") for system in matrix["system"])


def test_every_job_has_a_limit_and_the_workflow_may_only_read() -> None:
    assert all(0 < job["timeout-minutes"] <= 180 for job in read_jobs().values())
    assert yaml.safe_load(WORKFLOW.read_text())["permissions"] == {"contents": "read"}
    assert "secrets." not in WORKFLOW.read_text()
