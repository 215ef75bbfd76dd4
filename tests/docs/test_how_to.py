"""What pages say and no walk shows: the mistakes of a training command, a client that waits."""

import os
import re
import runpy
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from PIL import Image

from tests.contract.wire import connect, count_images, start_post
from tests.docs.pages import find_fences
from tests.docs.walkthrough import PART, PORT, Walk, mask_text
from tests.server import ROOT, Server, wait_until
from tests.warm_process import start_worker

HOW_TO = ROOT / "docs" / "how-to"
PYTHON = HOW_TO / "call-from-python.md"
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


def test_the_client_in_ten_lines_waits_and_asks_again(quadrants_dir: Path, tmp_path: Path) -> None:
    """Eight at once, while another holds the only place: refused, and all answered in the end."""
    [code] = re.findall(r"# sightglass\.py\n(.*?)```", PYTHON.read_text(), re.DOTALL)
    with start_worker(quadrants_dir, tmp_path, max_queue_size=1) as server:
        server.wait_ready()
        (tmp_path / "sightglass.py").write_text(code.replace(f"http://{PORT}", server.url))
        ask = runpy.run_path(str(tmp_path / "sightglass.py"))["ask"]
        picture = Image.open(ROOT / "docs" / "examples" / "parrot.jpg")
        picture.load()  # threads share it
        with ThreadPoolExecutor(8) as pool:
            with connect(server) as holder:
                start_post(holder, "/predict", 1)
                wait_until(lambda: count_images(server) == 1)
                asked = [pool.submit(ask, "/predict", picture, top_k=1) for _ in range(8)]
                wait_until(lambda: '"status":429' in server.read_log())
            answers = [answer.result().json() for answer in asked]
        assert len({str(answer["predictions"]) for answer in answers}) == 1
    assert len([line for line in code.splitlines() if line]) == 10


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
