"""The audit's verdict: clean only where somebody was asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.audit import CLEAN, NO_VERDICT, VULNERABLE, judge
from tests.server import ROOT, find_free_port

FLAW = {"id": "PYSEC-2025-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}
ASKED = {"name": "asked", "version": "1.0", "vulns": []}
FLAWED = {"name": "flawed", "version": "1.0", "vulns": [FLAW]}
UNASKED = {"name": "unasked", "skip_reason": "not found on the index"}


def test_all_asked_and_none_flawed_is_clean() -> None:
    assert judge([ASKED, ASKED], "") == (
        CLEAN,
        "AUDIT: clean, no known vulnerability in 2 packages.",
    )


def test_a_flaw_is_told_with_the_version_that_mends_it() -> None:
    code, verdict = judge([ASKED, FLAWED, UNASKED], "")
    assert code == VULNERABLE
    assert "flawed 1.0: PYSEC-2025-1, fixed in 2.0" in verdict


@pytest.mark.parametrize("packages", [[], [UNASKED], [UNASKED, ASKED]])
def test_what_nobody_was_asked_about_is_never_clean(packages: list[dict[str, object]]) -> None:
    code, verdict = judge(packages, "the network is down")
    assert code == NO_VERDICT
    assert "NO VERDICT" in verdict
    assert "clean, no known" not in verdict


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    """A hashed file of one package."""
    path = tmp_path / "requirements.txt"
    path.write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only way out of this machine is a proxy that nobody runs."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{find_free_port()}")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("tolerant", "code"), [(False, NO_VERDICT), (True, CLEAN)])
def test_without_a_network_the_command_says_that_there_is_no_verdict(
    requirements: Path, tolerant: bool, code: int
) -> None:
    command = [sys.executable, "-m", "deploy.audit", str(requirements)]
    command += ["--tolerate-no-verdict"] if tolerant else []
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == code, ran.stderr
    assert ran.stdout.startswith("AUDIT: NO VERDICT, the database could not be asked: ")
