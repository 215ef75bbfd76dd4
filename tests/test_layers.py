"""An import from a lower layer to a higher layer breaks an import contract."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT

CONTRACTS = [
    ("service/settings.py", "from service import app", "the layers of the service"),
    ("service/imaging/memory.py", "from service.api import status", "the layers of the service"),
    ("training/errors.py", "from training import config", "imports in training run downwards"),
    ("training/graph/session.py", "import training.export", "imports in training run downwards"),
    ("service/errors.py", "import training.errors", "service and training meet only on disk"),
    ("service/errors.py", "from hub import errors", "what is fetched or asked is outside"),
    ("client/errors.py", "from service import errors", "the client needs nothing else"),
]


@pytest.mark.parametrize(("module", "line", "contract"), CONTRACTS)
def test_an_import_from_a_lower_to_a_higher_layer_breaks_its_contract(
    module: str, line: str, contract: str, tmp_path: Path
) -> None:
    for package in ("service", "training", "client", "hub", "command"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    ran = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint()"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    broken = [said for said in ran.stdout.splitlines() if said.endswith("BROKEN")]
    assert any(contract in said for said in broken), ran.stdout
