"""The README tells the truth: its commands run, its files exist, its figures are right."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.server import ROOT, Server, start_server

README = (ROOT / "README.md").read_text()
URL = "http://127.0.0.1:3000"


def find_shell_lines() -> list[str]:
    """Every command in the README's shell blocks, without its comment."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.S)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def read_card(path: Path) -> dict[str, Any]:
    model = onnx.load(str(path))
    return dict(json.loads(next(p.value for p in model.metadata_props if p.key == "sightglass")))


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service as `make serve` starts it: bundled models, the one for photographs as default."""
    folder = tmp_path_factory.mktemp("server")
    with start_server(ROOT / "models", folder, default_model="squeezenet1_1") as server:
        server.wait_ready()
        yield server


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


def test_every_link_of_the_readme_leads_to_a_file() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 3
    assert [
        link for link in links if not link.startswith("http") and not (ROOT / link).exists()
    ] == []


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
