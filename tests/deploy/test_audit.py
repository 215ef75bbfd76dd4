"""The audit says clean only if the database answered for every package."""

import subprocess
import sys
from pathlib import Path

import pytest

from deploy.audit import CLEAN, NO_VERDICT, VULNERABLE, make_verdict
from tests.server import ROOT, find_free_port

VULNERABILITY = {"id": "PYSEC-2025-1", "fix_versions": ["2.0"], "aliases": [], "description": ""}
CHECKED = {"name": "checked", "version": "1.0", "vulns": []}
AFFECTED = {"name": "affected", "version": "1.0", "vulns": [VULNERABILITY]}
SKIPPED = {"name": "skipped", "skip_reason": "not found on the index"}


def test_packages_without_vulnerabilities_are_clean() -> None:
    assert make_verdict([CHECKED, CHECKED], "") == (
        CLEAN,
        "AUDIT: clean, no known vulnerability in 2 packages.",
    )


def test_a_vulnerability_is_listed_with_the_version_that_fixes_it() -> None:
    exit_code, verdict = make_verdict([CHECKED, AFFECTED, SKIPPED], "")
    assert exit_code == VULNERABLE
    assert "affected 1.0: PYSEC-2025-1, fixed in 2.0" in verdict


@pytest.mark.parametrize("packages", [[], [SKIPPED], [SKIPPED, CHECKED]])
def test_a_package_that_was_not_checked_is_never_clean(packages: list[dict[str, object]]) -> None:
    exit_code, verdict = make_verdict(packages, "the network is down")
    assert exit_code == NO_VERDICT
    assert "NO VERDICT" in verdict
    assert "clean, no known" not in verdict


@pytest.fixture
def requirements(tmp_path: Path) -> Path:
    """A requirements file with one package and its hash."""
    path = tmp_path / "requirements.txt"
    path.write_text(f"six==1.17.0 --hash=sha256:{'0' * 64}\n")
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The only way to the network is a proxy that does not run."""
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{find_free_port()}")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(("tolerant", "code"), [(False, NO_VERDICT), (True, CLEAN)])
def test_without_a_network_the_command_reports_that_there_is_no_verdict(
    requirements: Path, tolerant: bool, code: int
) -> None:
    command = [sys.executable, "-m", "deploy.audit", str(requirements)]
    command += ["--tolerate-no-verdict"] if tolerant else []
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == code, result.stderr
    assert result.stdout.startswith("AUDIT: NO VERDICT, the database did not answer: ")
