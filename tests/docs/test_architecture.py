"""The architecture page and the list of files name files that are there, and leave none out."""

import re
from pathlib import Path

import pytest

from tests.server import ROOT

PAGES = [
    ROOT / "docs" / "explanation" / "architecture.md",
    ROOT / "docs" / "reference" / "files.md",
]
NAMED = re.compile(
    r"`((?:service|training|client|hub|command|tests|deploy|benchmarks|loadtests)/[\w./-]*)`"
)
PACKAGES = ("service", "training", "client", "hub", "command")
SECTION = re.compile(r"^### (\S+/)$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_file_named_is_there(page: Path) -> None:
    named = set(NAMED.findall(page.read_text()))
    assert len(named) > 20
    assert {name for name in named if not (ROOT / name).exists()} == set()


def find_listed_modules() -> set[str]:
    """The modules in the tables of the list of files, by the folder in the heading above."""
    _, *parts = SECTION.split(PAGES[1].read_text())
    return {
        folder + name
        for folder, text in zip(parts[::2], parts[1::2], strict=True)
        for row in re.findall(r"^\| (`[^|]+`) \|", text.partition("\n## ")[0], re.MULTILINE)
        for name in re.findall(r"`([\w.]+)`", row)
        if name.endswith(".py")
    }


def test_every_module_is_in_the_list_of_files() -> None:
    modules = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py" and path.parent.name != "configs"
    }
    assert find_listed_modules() == modules
