"""The pages of the project: where they are, their fenced blocks, links, anchors and words.

Knows nothing of what a block does: `tests.docs.walkthrough` runs them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tests.server import ROOT

OUTSIDE = {".pytest_cache", ".venv", ".cache", ".git", "node_modules", "runs"}
PAGES = sorted(
    path for path in ROOT.rglob("*.md") if not OUTSIDE & set(path.relative_to(ROOT).parts)
)
WRITTEN = [path for path in PAGES if not path.is_relative_to(ROOT / "models")]  # not by training
TAGGED = {"sh", "python"}  # blocks of commands and scripts, which say whether a test runs them
PLAIN = {"http", "ini", "json", "mermaid", "nginx", "promql", "text", "toml", "yaml"}
TAG = re.compile(r"run|skip: \S.*")
HOW_TO_TAG = (
    "write ```{0} run, and a test runs it, or ```{0} skip: <reason>, e.g. skip: needs a cluster"
)
HOW_TO_INDENT = "begin the block at the start of the line, else no test runs it"
HOW_TO_NAME = (
    "name the language after ```: sh or python for what a reader runs, text for what is printed"
)
FENCE = re.compile(r"^(?P<indent> {0,3})```(?P<language>\S*) ?(?P<tag>.*)$")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
DIRECTIVE = re.compile(r"<!-- walk: (.*?) -->")
PICTURE_TOLERANCE = 8  # of 255: a map's rounding, seen through its colours
LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Fence:
    """A fenced block: where it begins, its language, its tag and its content."""

    line: int
    indent: str
    language: str
    tag: str
    content: str


def get_name(page: Path) -> str:
    """A page's path in the repository."""
    return str(page.relative_to(ROOT))


def find_fences(text: str) -> Iterator[Fence]:
    """Every fenced block of a page, in order."""
    opening: tuple[int, re.Match[str]] | None = None
    content: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = FENCE.match(line)
        if opening is None and fence:
            opening, content = (number, fence), []
        elif opening and fence and not fence["language"]:
            first, head = opening
            indent, language, tag = head.group("indent", "language", "tag")
            yield Fence(first, indent, language, tag, "\n".join(content))
            opening = None
        else:
            content.append(line)


def find_untagged(text: str) -> list[str]:
    """For each block that a reader might run and no test would: its line and what to do."""
    faults = []
    for fence in find_fences(text):
        if fence.language in TAGGED and not TAG.fullmatch(fence.tag):
            faults.append(f"line {fence.line}: {HOW_TO_TAG.format(fence.language)}")
        elif fence.tag == "run" and fence.indent:
            faults.append(f"line {fence.line}: {HOW_TO_INDENT}")
        elif fence.language not in TAGGED | PLAIN:
            faults.append(f"line {fence.line}: {HOW_TO_NAME}")
    return faults


def find_command_lines(text: str) -> list[str]:
    """Every line of a page's `sh` blocks, run or skipped; continued lines joined, no comments."""
    lines = []
    for fence in find_fences(text):
        if fence.language == "sh":
            joined = fence.content.replace("\\\n", " ")
            lines += [re.sub(r"(^|\s+)# .*", "", line).strip() for line in joined.splitlines()]
    return [line for line in lines if line]


def read_directives(text: str) -> set[str]:
    """The words of a page's comment `<!-- walk: … -->`: data, digits, quick, slow."""
    found = DIRECTIVE.search(text)
    return set(found[1].split()) if found else set()


def count_prose(text: str) -> int:
    """A page's words without its blocks, tables and comments."""
    bare = COMMENT.sub("", FENCED.sub("", text))
    return sum(len(line.split()) for line in bare.splitlines() if not line.startswith("|"))


def make_anchor(heading: str) -> str:
    """What a heading is called in a link, as GitHub has it."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower().replace("`", ""))
    return kept.replace(" ", "-")


def find_anchors(page: Path) -> set[str]:
    """All that a link to a page may name after `#`."""
    text = FENCED.sub("", page.read_text())
    return {make_anchor(line.lstrip("#")) for line in text.splitlines() if line.startswith("#")}


def find_links(page: Path) -> list[str]:
    """A page's links to files and headings of the project."""
    links = LINK.findall(FENCED.sub("", page.read_text()))
    return [link for link in links if "://" not in link and not link.startswith("mailto:")]


def leads_somewhere(page: Path, link: str) -> bool:
    """Whether a link's file exists, and the heading in it if the link names one."""
    name, _, heading = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    return target.exists() and (not heading or heading in find_anchors(target))


def is_same_picture(one: Path, other: Path) -> bool:
    """Whether two files hold the same picture, but for rounding."""
    if not other.exists():
        return False
    a, b = (np.asarray(Image.open(path).convert("RGB"), int) for path in (one, other))
    return a.shape == b.shape and int(np.abs(a - b).max()) <= PICTURE_TOLERANCE
