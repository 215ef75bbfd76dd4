"""docs/inference-protocol.md tells the truth: its examples run and print what stands there."""

import os
import re
import subprocess
import sys

import pytest

from service.api.v2.tensors import MAX_JSON_VALUES
from tests.server import ROOT, Server

DOCUMENT = (ROOT / "docs" / "inference-protocol.md").read_text()
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<printed>.*?)```", re.DOTALL)


def mask(printed: str) -> str:
    """Without decimals, which differ between machines."""
    return re.sub(r"\d\.\d+", "0.…", printed)


def find_python(client: str) -> str:
    """KServe's client pins other packages than ours: $KSERVE_PYTHON has it."""
    python = sys.executable if client == "triton" else os.environ.get("KSERVE_PYTHON")
    if not python:
        pytest.skip("needs KServe's client: set KSERVE_PYTHON to a Python that has it")
    return python


@pytest.mark.parametrize(("number", "client"), [(0, "triton"), (1, "kserve")])
def test_the_examples_print_what_they_say(number: int, client: str, bundled: Server) -> None:
    example = list(EXAMPLE.finditer(DOCUMENT))[number]
    code = example["code"].replace("127.0.0.1:3000", bundled.url.removeprefix("http://"))
    command = [find_python(client), "-c", code]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert mask(ran.stdout) == mask(example["printed"]), ran.stderr


def test_the_limit_it_tells_is_the_limit() -> None:
    assert f"most {MAX_JSON_VALUES:,} values" in DOCUMENT.replace("\n", " ")
