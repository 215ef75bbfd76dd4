"""The pages tell the truth: their commands run and answer as shown, their links lead somewhere.

`python -m tests.docs.walkthrough docs/tutorials/quickstart.md` puts a page's answers in anew.
"""

import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.contract.artifacts import wait_loaded
from tests.deploy import test_bento
from tests.docs.command_line import read_help
from tests.docs.pages import (
    PAGES,
    WRITTEN,
    count_prose,
    find_command_lines,
    find_fences,
    find_links,
    find_untagged,
    get_name,
    is_same_picture,
    leads_somewhere,
    read_directives,
)
from tests.docs.walkthrough import PART, PICTURE, Walk
from tests.server import ROOT, Server

MAX_WORDS = 900
DOCS = ROOT / "docs"
UNMEASURED = {"CHANGELOG.md"}  # a record, not a page that is read as a whole
CHANGES = {  # fewer and smaller pictures, so that a test of a page that trains takes seconds
    "docs/tutorials/your-own-model.md": {"head -60": "head -12", "128, 128, 128": "64, 64, 64"},
}
NAMED = re.compile(r"\bdocs/[\w/-]+\.md")
LABEL = re.compile("Forest|Residential|River")  # after one epoch, any may be the most probable
INTERVAL = re.compile(r" \(0 %: 0 to 0\)")  # numbers are masked; a perfect result has none
CHORES = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
CHORE = re.compile(r"(?:^|[;&|] *|[A-Z_]+=\S+ )make ([a-z][a-z-]*)\b")
COMMAND = re.compile(r"python -m (?P<package>training|service) (?P<command>\w+)(?P<rest>.*)")
UNTAGGED = (
    "Text.\n\n```sh\nmake environment\n```\n\n```\nmake environment\n```\n\n```sh run\nls\n```\n"
)


def mark(page: Path) -> object:
    """A page whose commands take long is left out of `make test`."""
    slow = "slow" in read_directives(page.read_text())
    return pytest.param(page, id=get_name(page), marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("page", WRITTEN, ids=get_name)
def test_every_command_says_whether_it_is_run(page: Path) -> None:
    """Its block is tagged: `run`, or `skip` with a reason. What is to be run is found to be run."""
    text = page.read_text()
    assert find_untagged(text) == []
    run = [fence for fence in find_fences(text) if fence.tag == "run"]
    assert len(run) == len([part for part in PART.finditer(text) if part["code"]])


def test_an_untagged_block_is_found() -> None:
    """With the line it begins at, and what to do."""
    commands, unnamed = find_untagged(UNTAGGED)
    assert commands.startswith("line 3: write ```sh run")
    assert unnamed.startswith("line 7: name the language")
    assert find_untagged("```sh skip\nls\n```\n")  # a reason is missing
    assert find_untagged("1. First:\n   ```sh run\n   ls\n   ```\n")
    assert find_untagged("```sh skip: needs a cluster\nls\n```\n") == []


def forget_results(said: str) -> str:
    """Leave out what a model that was trained for seconds may answer otherwise."""
    return INTERVAL.sub("", LABEL.sub("label", said))


@pytest.mark.parametrize("page", [mark(page) for page in WRITTEN if PART.search(page.read_text())])
def test_every_command_answers_as_shown(
    page: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """In order, in one folder, and the pictures shown are the ones that come."""
    text = page.read_text()
    directives = read_directives(text)
    if "data" in directives:
        request.getfixturevalue("data_dir")

    def find(fixture: str) -> Server:
        server: Server = request.getfixturevalue(fixture)
        wait_loaded(server)
        return server

    quick = "quick" in directives
    with ExitStack() as stack:
        find_server, find_launched = partial(find, "bundled_worker"), partial(find, "bundled")
        changes = CHANGES.get(get_name(page), {})
        walk = Walk(tmp_path, stack, find_server, find_launched, quick, changes)
        if "digits" in directives:
            walk.use_drawn_digits()
        for step in walk.steps(text):
            as_shown = step.is_as_shown(forget_results if quick else str)
            assert as_shown, f"{step.code}\nexit code {step.exit_code}\n{step.printed}"
    for picture in PICTURE.findall(text) if not quick else []:
        if (tmp_path / picture).exists():
            assert is_same_picture(tmp_path / picture, DOCS / "pictures" / picture), picture


@pytest.mark.parametrize("page", WRITTEN, ids=get_name)
def test_every_command_exists(page: Path) -> None:
    """Skipped blocks included: chores of the Makefile, commands and options of the packages."""
    lines = find_command_lines(page.read_text())
    assert {chore for line in lines for chore in CHORE.findall(line)} <= CHORES
    for line in lines:
        if called := COMMAND.search(line):
            described = read_help(called["package"], called["command"])
            options = re.findall(r"(?<= )--[a-z][a-z-]*", called["rest"])
            assert [option for option in options if option not in described] == [], line
        if line.startswith("bentoml"):
            assert line in (test_bento.BUILD, test_bento.SERVE), "no test runs this line"


@pytest.mark.parametrize("page", PAGES, ids=get_name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the project, and to a heading in it where one is named."""
    assert [link for link in find_links(page) if not leads_somewhere(page, link)] == []


def test_every_page_that_the_code_names_exists() -> None:
    """In docstrings, comments and messages."""
    packages = ("service", "training", "tests", "loadtests", "benchmarks", "deploy")
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    named = {(name, get_name(file)) for file in files for name in NAMED.findall(file.read_text())}
    assert {(name, file) for name, file in named if not (ROOT / name).exists()} == set()


def test_every_page_of_docs_is_in_its_index() -> None:
    """So that it can be found: `docs/README.md`, and for a decision the index of decisions."""
    decisions = DOCS / "decisions" / "README.md"
    for index in (DOCS / "README.md", decisions):
        linked = {(index.parent / link.partition("#")[0]).resolve() for link in find_links(index)}
        pages = {p for p in PAGES if p.is_relative_to(DOCS) and p not in (index, decisions)}
        ours = {page for page in pages if (page.parent == decisions.parent) == (index == decisions)}
        assert {get_name(page) for page in ours - linked} == set()


@pytest.mark.parametrize("page", [p for p in WRITTEN if p.name not in UNMEASURED], ids=get_name)
def test_no_page_is_long(page: Path) -> None:
    """What takes more than five minutes to read is two pages."""
    assert count_prose(page.read_text()) <= MAX_WORDS
