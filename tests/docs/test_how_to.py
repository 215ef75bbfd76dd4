"""What pages say and no walk shows: the mistakes of a training command, KServe's client."""

import os
import re
import shlex
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import find_fences
from tests.docs.walkthrough import PART, PORT, Walk, mask_text
from tests.server import ROOT, Server

HOW_TO = ROOT / "docs" / "how-to"
TRITON = HOW_TO / "use-triton-clients.md"
OWN_MODEL = ROOT / "docs" / "tutorials" / "your-own-model.md"
IMPORT = HOW_TO / "import-a-network.md"


@pytest.mark.parametrize("page", [OWN_MODEL, IMPORT], ids=lambda path: path.stem)
def test_mistakes_say_what_the_table_says(page: Path, tmp_path: Path) -> None:
    """Each row of the page's table: its command, its sentence, and exit code 2."""
    text = page.read_text()
    rows = re.findall(r"^\| `((?:fit|import) .*?)` \| (.*?) \|$", text, re.MULTILINE)
    assert len(rows) >= 4
    with ExitStack() as stack:
        walk = Walk(tmp_path, stack, quick=True)
        for part in PART.finditer(text):
            if (part["code"] or "").startswith(("# ", "python -c")):  # files, weights and labels
                walk.take(part)
        (tmp_path / "two.txt").write_text("Forest\nRiver\n")
        (tmp_path / "photos" / "River").mkdir(parents=True)
        for command, sentence in rows:
            printed, exit_code = walk.train(shlex.split(command))
            assert exit_code == 2, command
            assert printed.startswith(sentence.rstrip("…")), command


def test_kserves_client_is_answered_as_shown(request: pytest.FixtureRequest) -> None:
    """It pins other packages than ours: $KSERVE_PYTHON names a Python that has it."""
    python = os.environ.get("KSERVE_PYTHON")
    if not python:
        pytest.skip("needs KServe's client: set KSERVE_PYTHON to a Python that has it")
    server: Server = request.getfixturevalue("bundled_worker")
    fences = list(find_fences(TRITON.read_text()))
    [number] = [i for i, fence in enumerate(fences) if "from kserve import" in fence.content]
    code = fences[number].content.replace(PORT, server.url.removeprefix("http://"))
    ran = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert mask_text(ran.stdout) == mask_text(fences[number + 1].content), ran.stderr
