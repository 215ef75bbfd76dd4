"""The messages that the troubleshooting page explains are messages of the code, word by word."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.server import ROOT

PAGE = ROOT / "docs" / "how-to" / "troubleshooting.md"
MESSAGE = re.compile(r"^\| `([^`]* [^`]*)` \|", re.MULTILINE)
PAGE_MESSAGE = re.compile(r'^\| "([^"]+)"', re.MULTILINE)
ANYTHING = r".*"
LITERAL_CHARACTERS = 12  # of a template: fewer would match any message


def find_templates(path: Path) -> Iterator[str]:
    """Every string of a module as a regular expression; what is filled in may be anything."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = [
                value.value if isinstance(value, ast.Constant) else None for value in node.values
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = [node.value]
        else:
            continue
        if sum(len(part) for part in parts if isinstance(part, str)) >= LITERAL_CHARACTERS:
            yield "".join(ANYTHING if part is None else re.escape(str(part)) for part in parts)


def test_every_message_is_one_that_the_code_says() -> None:
    """A message may be shortened with `…` where the code fills something in."""
    modules = [path for part in ("service", "training") for path in (ROOT / part).rglob("*.py")]
    templates = {template for path in modules for template in find_templates(path)}
    makefile = (ROOT / "Makefile").read_text()
    messages = MESSAGE.findall(PAGE.read_text())
    assert len(messages) > 30
    said = [re.compile(template, re.DOTALL) for template in templates]
    unknown = [
        message
        for message in messages
        if not any(template.fullmatch(message) for template in said)
        and message.partition("; …")[0] not in makefile
    ]
    assert unknown == []


def test_every_message_of_the_page_is_one_that_the_page_says() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "service" / "page").rglob("*.js"))
    messages = [text for text in PAGE_MESSAGE.findall(PAGE.read_text()) if "Doubts" not in text]
    assert len(messages) > 2
    for message in messages:
        assert all(part in scripts for part in message.split("…")), message
