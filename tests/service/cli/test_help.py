"""The help of the commands names every option and gives examples that parse."""

import shlex
import subprocess
import sys

import pytest

from tests.server import ROOT

OPTIONS = {
    "serve": ("--host", "--port"),
    "check": ("models",),
    "explain": (
        *("picture", "--output", "--model", "--target", "--against"),
        *("--view", "--colormap", "--alpha", "--size", "--verify"),
        *("--box", "--point", "--of", "--report", "--csv"),
    ),
}


def read_help(*arguments: str) -> str:
    command = [sys.executable, "-m", "service", *arguments, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_help_lists_the_commands_with_an_example_of_each() -> None:
    text = read_help()
    examples = [shlex.split(line) for line in text.splitlines() if " -m service " in line]
    named = [example[3] for example in examples if example[0] == "python"]
    assert list(dict.fromkeys(named)) == list(OPTIONS)


@pytest.mark.parametrize("command", OPTIONS)
def test_the_help_of_a_command_explains_every_option(command: str) -> None:
    text = " ".join(read_help(command).split())
    assert f"example: python -m service {command}" in text
    for option in OPTIONS[command]:
        assert option in text
