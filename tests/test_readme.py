"""The README tells the truth: its commands run, its files exist, its figures are right."""

import json
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.deploy import test_bento
from tests.digits import write_mnist
from tests.server import ROOT, Server
from tests.walkthrough import Walk

README = (ROOT / "README.md").read_text()
URL = "http://127.0.0.1:3000"


def find_shell_lines() -> list[str]:
    """Every command in the README's shell blocks, without its comment."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    lines = [
        re.sub(r"\s+# .*", "", line).strip() for block in blocks for line in block.splitlines()
    ]
    return [line for line in lines if line]


def read_card(path: Path) -> dict[str, Any]:
    model = onnx.load(str(path))
    return dict(json.loads(next(p.value for p in model.metadata_props if p.key == "sightglass")))


@pytest.mark.parametrize("line", [line for line in find_shell_lines() if line.startswith("curl")])
def test_every_curl_of_the_readme_is_answered(line: str, bundled: Server, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    command = f"{line.replace(URL, bundled.url)} --silent --write-out '%{{stderr}}%{{http_code}}'"
    ran = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
    assert ran.stderr == "200", ran.stdout
    for name in re.findall(r"-o (\S+)", line):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("line", [line for line in find_shell_lines() if line.startswith("make")])
def test_every_chore_of_the_readme_is_in_the_makefile(line: str) -> None:
    chore = line.split()[1]
    assert re.search(rf"^{chore}:.*## ", (ROOT / "Makefile").read_text(), re.M)


def test_the_training_lines_train_measure_and_export(tmp_path: Path) -> None:
    """On a few drawn digits, for one epoch."""
    lines = [line for line in find_shell_lines() if line.startswith("python -m training")]
    assert [line.split()[3] for line in lines] == ["fit", "evaluate", "export"]
    write_mnist(tmp_path / "data")
    with ExitStack() as stack:
        walk = Walk(tmp_path, stack, quick=True)
        walk.environment["SIGHTGLASS_DATA"] = str(tmp_path / "data")
        for line in lines:
            printed, exit_code = walk.train(line.split()[3:])
            assert exit_code == 0, printed
    assert (tmp_path / "models" / "lenet5" / "2" / "model.onnx").exists()


def test_the_service_checks_the_bundled_models() -> None:
    [line] = [line for line in find_shell_lines() if line.startswith("python -m service")]
    command = [sys.executable, *line.split()[1:]]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert "lenet5/1" in ran.stdout


def test_the_bento_lines_are_those_that_are_tested() -> None:
    """`tests/deploy/test_bento.py` runs them."""
    lines = [line for line in find_shell_lines() if line.startswith("bentoml")]
    assert lines == [test_bento.BUILD, test_bento.SERVE]


def test_no_line_of_the_readme_goes_without_a_test() -> None:
    tested = ("curl", "make", "python -m training", "python -m service check", "bentoml")
    assert [line for line in find_shell_lines() if not line.startswith(tested)] == []


def test_the_tree_names_every_module_of_the_service() -> None:
    [tree] = re.findall(r"## What is where\n\n```\n(.*?)```", README, re.S)
    modules = {path.stem for path in (ROOT / "service").glob("*.py")} - {"__init__", "__main__"}
    assert {module for module in modules if not re.search(rf"\b{module}\b", tree)} == set()


def test_every_bundled_model_is_told_with_its_own_accuracy() -> None:
    table = README.partition("<!-- models -->")[2].partition("<!-- /models -->")[0]
    rows = {row.split("`")[1]: row for row in table.strip().splitlines()}
    folders = {path.parents[1].name: path for path in ROOT.glob("models/*/*/model.onnx")}
    assert set(rows) == set(folders)
    for name, path in folders.items():
        if metrics := read_card(path)["metrics"]:
            assert f"{metrics['accuracy']:.2%}".replace("%", " %") in rows[name]
