"""docs/inference-protocol.md tells the truth: its example runs and prints what stands there."""

import re
import subprocess
import sys
from pathlib import Path

from service.tensors import MAX_JSON_VALUES
from tests.server import ROOT, start_server

DOCUMENT = (ROOT / "docs" / "inference-protocol.md").read_text()
EXAMPLE = re.compile(r"```python\n(?P<code>.*?)```\n\n```text\n(?P<printed>.*?)```", re.DOTALL)


def mask(printed: str) -> str:
    """Without decimals, which differ between machines."""
    return re.sub(r"\d\.\d+", "0.…", printed)


def test_the_example_prints_what_it_says(tmp_path: Path) -> None:
    example = EXAMPLE.search(DOCUMENT)
    assert example
    with start_server(ROOT / "models", tmp_path, default_model="squeezenet1_1") as server:
        server.wait_ready()
        code = example["code"].replace("127.0.0.1:3000", server.url.removeprefix("http://"))
        command = [sys.executable, "-c", code]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert mask(ran.stdout) == mask(example["printed"]), ran.stderr


def test_the_limit_it_tells_is_the_limit() -> None:
    assert f"most {MAX_JSON_VALUES:,} values" in DOCUMENT.replace("\n", " ")
