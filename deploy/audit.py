"""Lists known vulnerabilities of all packages of the image and of training.

There is no verdict if the database does not answer. pip-audit's exit code does not show this: an
index that answers "not found" for every package looks clean to it. So this command counts the
packages that were really checked.
"""

import argparse
import json
import subprocess
import sys
from typing import Any

REQUIREMENTS = ("requirements/cpu.txt", "requirements/gpu.txt", "requirements/dev.txt")
TIMEOUT_SECONDS = 300
CLEAN, VULNERABLE, NO_VERDICT = 0, 1, 3


def main() -> int:
    """Print the verdict. Exit with 0 if clean, 1 if vulnerable, 3 if there is no verdict."""
    parser = argparse.ArgumentParser(prog="python -m deploy.audit", description=__doc__)
    parser.add_argument(
        "requirements",
        nargs="*",
        default=REQUIREMENTS,
        help="requirements files with hashes, for example requirements/cpu.txt",
    )
    parser.add_argument(
        "--tolerate-no-verdict",
        action="store_true",
        help="exit with 0 if the database does not answer; the verdict still says so",
    )
    options = parser.parse_args()
    exit_code, verdict = make_verdict(*run_pip_audit(options.requirements))
    print(verdict)
    return CLEAN if exit_code == NO_VERDICT and options.tolerate_no_verdict else exit_code


def run_pip_audit(requirements: list[str]) -> tuple[list[dict[str, Any]], str]:
    """What pip-audit found for each package, and the last line of its messages."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--disable-pip", "--require-hashes"]
    command += [part for path in requirements for part in ("--requirement", path)]
    try:
        result = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return [], f"no answer within {TIMEOUT_SECONDS} s"
    message = (result.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1]
    try:
        return json.loads(result.stdout)["dependencies"], message
    except (ValueError, KeyError):
        return [], message


def make_verdict(packages: list[dict[str, Any]], message: str) -> tuple[int, str]:
    """The exit code and the text of the verdict."""
    lines = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    skipped = sorted(package["name"] for package in packages if "skip_reason" in package)
    checked = len(packages) - len(skipped)
    if lines:
        return VULNERABLE, "\n".join(["AUDIT: known vulnerabilities.", *lines])
    if not checked:
        reason = packages[0]["skip_reason"] if packages else message
        return NO_VERDICT, f"AUDIT: NO VERDICT, the database did not answer: {reason}"
    if skipped:
        return (
            NO_VERDICT,
            f"AUDIT: NO VERDICT on {', '.join(skipped)}; {checked} other packages are clean.",
        )
    return CLEAN, f"AUDIT: clean, no known vulnerability in {checked} packages."


if __name__ == "__main__":
    sys.exit(main())
