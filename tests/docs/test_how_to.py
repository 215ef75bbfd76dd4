"""What pages say and no walk shows: the mistakes of a training command, KServe's client."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.docs.pages import find_fences
from tests.docs.walkthrough import PART, PORT, Walk, mask_text
from tests.server import ROOT, Server, find_free_port
from tests.warm_process import start_worker

HOW_TO = ROOT / "docs" / "how-to"
TRITON = HOW_TO / "use-triton-clients.md"
OWN_MODEL = ROOT / "docs" / "tutorials" / "your-own-model.md"
GRPC_PORT = "127.0.0.1:9000"
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
    check_program("import InferenceRESTClient", PORT, server.url.removeprefix("http://"), python)


@pytest.fixture(scope="module")
def grpc_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address for gRPC of a worker with the bundled models."""
    pytest.importorskip("h2", reason="the extra grpc is not installed")
    port, folder = find_free_port(), tmp_path_factory.mktemp("grpc")
    settings = {"grpc_port": port, "default_model": "efficientnet_lite0"}
    with start_worker(ROOT / "models", folder, **settings) as running:
        running.wait_ready()
        yield f"127.0.0.1:{port}"


def test_tritons_client_is_answered_over_grpc_as_shown(grpc_address: str) -> None:
    pytest.importorskip("tritonclient.grpc", reason="tritonclient or grpcio is not installed")
    check_program("import tritonclient.grpc", GRPC_PORT, grpc_address, sys.executable)


def test_kserves_client_is_answered_over_grpc_as_shown(request: pytest.FixtureRequest) -> None:
    """It pins other packages than ours: $KSERVE_PYTHON names a Python that has it."""
    python = os.environ.get("KSERVE_PYTHON")
    if not python:
        pytest.skip("needs KServe's client: set KSERVE_PYTHON to a Python that has it")
    address = request.getfixturevalue("grpc_address")
    check_program("import InferenceGRPCClient", GRPC_PORT, address, python)


def check_program(mark: str, port: str, address: str, python: str) -> None:
    """Run the program of the page that has `mark`, at another address. Compare what it prints."""
    fences = list(find_fences(TRITON.read_text()))
    [number] = [i for i, fence in enumerate(fences) if mark in fence.content]
    code = fences[number].content.replace(port, address)
    ran = subprocess.run([python, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert mask_text(ran.stdout) == mask_text(fences[number + 1].content), ran.stderr
