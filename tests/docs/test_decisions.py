"""Each record of docs/decisions has a number, a title and a status, and stands in the index."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).parents[2] / "docs" / "decisions"
PATHS = sorted(FOLDER.glob("[0-9]*.md"))
STATUS = r"accepted|superseded by \[(?P<newer>\d{4})\]\((?P<target>[^)]+)\)"
HEAD = re.compile(
    rf"# (?P<number>\d{{4}})\. (?P<title>.+)\n\n"
    rf"- Status: (?P<status>{STATUS})\n- Date: \d{{4}}-\d\d-\d\d\n"
)
ROW = re.compile(r"^\| (\d{4}) \| \[(.+)\]\(([^)]+)\) \| (.+) \|$", re.MULTILINE)
SECTIONS = ["Context", "Decision", "Consequences"]


class Row(NamedTuple):
    """One record, as the index lists it."""

    number: str
    title: str
    file: str
    status: str


def read_head(path: Path) -> re.Match[str]:
    """The lines above the first section."""
    head = HEAD.match(path.read_text())
    assert head, f"{path.name} must begin with its number, title, status and date"
    return head


def test_the_numbers_have_no_gaps() -> None:
    numbers = [path.name[:4] for path in PATHS]
    assert numbers == [f"{number:04d}" for number in range(1, len(PATHS) + 1)]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name[:4])
def test_each_record_has_its_number_a_status_and_three_sections(path: Path) -> None:
    assert read_head(path)["number"] == path.name[:4]
    assert re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE) == SECTIONS


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name[:4])
def test_only_a_later_record_supersedes_one(path: Path) -> None:
    head = read_head(path)
    if head["newer"]:
        assert head["target"].startswith(f"{head['newer']}-")
        assert (FOLDER / head["target"]).exists()
        assert head["newer"] > head["number"]


def test_the_index_lists_each_record_once_with_its_title_and_status() -> None:
    heads = [(path.name, read_head(path)) for path in PATHS]
    records = [Row(head["number"], head["title"], name, head["status"]) for name, head in heads]
    rows = [Row(*row) for row in ROW.findall((FOLDER / "README.md").read_text())]
    assert records == sorted(rows)
