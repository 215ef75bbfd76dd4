"""Asks for known vulnerabilities of everything that is installed, image and training alike.

An unreachable database gives no verdict, and pip-audit's exit code alone does not tell: a package
index that answers "not found" to everything looks clean to it. So what was asked is counted here.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

REQUIREMENTS = ("requirements/cpu.txt", "requirements/gpu.txt", "requirements/dev.txt")
PATIENCE_SECONDS = 300
CLEAN, VULNERABLE, NO_VERDICT = 0, 1, 3


def main() -> int:
    """Print a verdict; exit with 0 if clean, 1 if not, 3 if nobody could be asked."""
    parser = argparse.ArgumentParser(prog="python -m deploy.audit", description=__doc__)
    parser.add_argument("requirements", nargs="*", default=REQUIREMENTS, help="hashed files")
    parser.add_argument(
        "--tolerate-no-verdict",
        action="store_true",
        help="exit with 0 if nobody could be asked; the verdict says so all the same",
    )
    options = parser.parse_args()
    code, verdict = judge(*ask(options.requirements))
    print(verdict)
    return CLEAN if code == NO_VERDICT and options.tolerate_no_verdict else code


def ask(requirements: list[str]) -> tuple[list[dict[str, Any]], str]:
    """What pip-audit found for each package, and what it said besides."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--disable-pip", "--require-hashes"]
    command += [part for path in requirements for part in ("--requirement", path)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)  # noqa: S603
    except subprocess.TimeoutExpired:
        return [], f"no answer within {PATIENCE_SECONDS} s"
    said = (ran.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
    try:
        return json.loads(ran.stdout)["dependencies"], said
    except (ValueError, KeyError):
        return [], said


def judge(packages: list[dict[str, Any]], said: str) -> tuple[int, str]:
    """The exit code and its sentences."""
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}, "
        f"fixed in {', '.join(flaw['fix_versions']) or 'no version yet'}"
        for package in packages
        for flaw in package.get("vulns", ())
    ]
    unasked = sorted(package["name"] for package in packages if "skip_reason" in package)
    asked = len(packages) - len(unasked)
    if lines:
        return VULNERABLE, "\n".join(["AUDIT: known vulnerabilities.", *lines])
    if not asked:
        reason = packages[0]["skip_reason"] if packages else said
        return NO_VERDICT, f"AUDIT: NO VERDICT, the database could not be asked: {reason}"
    if unasked:
        return NO_VERDICT, f"AUDIT: NO VERDICT on {', '.join(unasked)}; {asked} others are clean."
    return CLEAN, f"AUDIT: clean, no known vulnerability in {asked} packages."


if __name__ == "__main__":
    sys.exit(main())
