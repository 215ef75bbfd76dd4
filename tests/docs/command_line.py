"""What `python -m training` and `python -m service` say of themselves, asked in this process."""

import contextlib
import io
import re
import runpy
import sys
from functools import cache
from unittest import mock

import pytest


@cache
def read_help(package: str, *command: str) -> str:
    """What `--help` says; the test fails if there is no such command."""
    output = io.StringIO()
    with (
        mock.patch.object(sys, "argv", [package, *command, "--help"]),
        contextlib.redirect_stdout(output),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_module(package, run_name="__main__", alter_sys=True)
    assert ended.value.code == 0, f"python -m {package} {' '.join(command)}"
    return output.getvalue()


def find_commands(package: str) -> set[str]:
    """The names of a package's commands."""
    return set(re.findall(r"^    (\w+)  ", read_help(package), re.MULTILINE))
