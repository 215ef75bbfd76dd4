"""docs/http.md tells the truth: each of its curl lines is run, each answer compared.

Write the answers anew with `python -m tests.test_docs_http`. Values that differ between machines
and models (ids, times, digests, decimals, boxes) are shown as they were and not compared.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from service.schemas import ExplainOptions
from tests.contract.artifacts import wait_loaded
from tests.server import ROOT, Server, start_server

DOCUMENT = ROOT / "docs" / "http.md"
ADDRESS = "http://127.0.0.1:3000"
SECTION = re.compile(
    r"<!-- server:(?P<settings>[^>]*)-->(?P<text>.*?)(?=<!-- server:|\Z)", re.DOTALL
)
EXAMPLE = re.compile(r"```sh\n(?P<line>.*?)```\n\n```http\n(?P<answer>.*?)```", re.DOTALL)
PARAMETERS = re.compile(r"(?<=<!-- parameters -->\n).*?(?=<!-- /parameters -->)", re.DOTALL)
SHOWN_HEADERS = (
    "content-type",
    "location",
    "allow",
    "connection",
    "retry-after",
    "vary",
    "www-authenticate",
    "x-model",
    "x-predicted-label",
    "x-target-label",
    "x-target-probability",
)
CLOSING = "connection: close\n"
ELIDED = {"cam", "picture", "card", "request_id"}
WIDTH = 92
VOLATILE = (
    (re.compile(r'("sha256": )"[0-9a-f]{64}"'), r'\1"…"'),
    (re.compile(r'("box": )\[[^]]*\]'), r"\1[…]"),
    (re.compile(r"\b\d+\.\d+(e-\d+)?\b"), "0.…"),
    (re.compile(r"\b\d+e-\d+\b"), "0.…"),
    (re.compile(r"about \S+ s"), "about … s"),
)
CURL = """#!/bin/sh
exec {curl} -sS -D "$HEADERS/$$" "$@"
"""


def run(line: str, server: Server) -> str:
    """What a line of the document answers, as the document shows it."""
    curl = shutil.which("curl")
    assert curl
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("bin", "headers", "here"):
            (folder / part).mkdir()
        (folder / "bin" / "curl").write_text(CURL.format(curl=curl))
        (folder / "bin" / "curl").chmod(0o755)
        (folder / "here" / "docs").symlink_to(ROOT / "docs")
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        ran = subprocess.run(
            ["sh", "-c", line.replace(ADDRESS, server.url) + "wait"],
            cwd=folder / "here",
            env=os.environ | {"PATH": path, "HEADERS": str(folder / "headers")},
            stdout=subprocess.PIPE,
            check=False,
        )
        told = sorted((folder / "headers").iterdir(), key=lambda path: path.stat().st_mtime)
        headers = told[0].read_text()  # of the one in the foreground, which is answered first
        files = [p for p in (folder / "here").iterdir() if not p.is_symlink()]
        body = files[0].read_bytes() if files else ran.stdout
    return tell_head(headers) + tell_body(body, files[0].name if files else None)


def tell_head(headers: str) -> str:
    """Status and the headers worth showing; of several answers the last."""
    first, *lines = headers.strip().split("\n\n")[-1].replace("\r", "").splitlines()
    pairs = [line.partition(": ") for line in lines]
    shown = [f"{name}: {value}" for name, _, value in pairs if name.lower() in SHOWN_HEADERS]
    return "\n".join([f"HTTP {first.split()[1]}", *shown]) + "\n"


def tell_body(body: bytes, file_name: str | None) -> str:
    """JSON in short, a picture by its size, text by what was kept of it."""
    if not body:
        return ""
    with contextlib.suppress(ValueError):
        return "\n" + tell_json(json.loads(body), "") + "\n"
    if file_name:
        with contextlib.suppress(OSError), Image.open(io.BytesIO(body)) as image:
            return f"\n({file_name}: {image.format}, {image.width} x {image.height} pixels)\n"
    return "\n" + body.decode().strip() + "\n"


def tell_json(value: Any, indent: str) -> str:
    """On one line where it fits."""
    flat = json.dumps(elide(value), ensure_ascii=False)
    if len(indent) + len(flat) <= WIDTH or not isinstance(value, dict | list):
        return flat
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [
            f"{deeper}{json.dumps(key)}: {tell_json(elide({key: item})[key], deeper)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + tell_json(item, deeper) for item in value) + f"\n{indent}]"


def elide(value: Any) -> Any:
    """What is long or changes every time is not shown."""
    if isinstance(value, dict):
        return {
            key: "…" if key in ELIDED and item is not None else elide(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [elide(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def mask(answer: str) -> str:
    """What must be the same on every machine."""
    for pattern, replacement in VOLATILE:
        answer = pattern.sub(replacement, answer)
    return answer.strip()


def tell_parameters() -> str:
    """The table of parameters, from the schema that validates them."""
    lines = ["| parameter | default | meaning |", "|---|---|---|"]
    for name, field in ExplainOptions.model_fields.items():
        default = "" if field.default in (None, ()) else f"`{field.default}`"
        lines.append(f"| `{name}` | {default} | {field.description} |")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def serve(settings: str, folder: Path) -> Iterator[Server]:
    """A server with the bundled models and a section's settings."""
    own = dict(pair.lower().split("=", 1) for pair in settings.split())
    models = Path(own.pop("models_dir", ROOT / "models"))
    if models.exists():
        own["default_model"] = "lenet5"
    with start_server(models, folder, **own) as server:
        server.wait_answering()
        if models.exists():
            wait_loaded(server) if "api_keys" not in own else server.wait_ready()
        yield server


def read_sections() -> list[re.Match[str]]:
    """The document's parts, each for a server of its own."""
    return list(SECTION.finditer(DOCUMENT.read_text()))


@pytest.mark.parametrize("number", range(4))
def test_every_line_answers_as_the_document_says(number: int, tmp_path: Path) -> None:
    section = read_sections()[number]
    with serve(section["settings"], tmp_path) as server:
        for example in EXAMPLE.finditer(section["text"]):
            expected, answer = mask(example["answer"]), mask(run(example["line"], server))
            if CLOSING not in expected:  # a refusal may come before the last of a body, or after
                answer = answer.replace(CLOSING, "")
            assert expected == answer, example["line"]


def test_no_line_is_without_an_answer() -> None:
    text = DOCUMENT.read_text()
    assert len(read_sections()) == 4
    assert text.count("```sh\n") == len(EXAMPLE.findall(text))


def test_every_error_code_is_in_the_document() -> None:
    codes = set(re.findall(r'"code": "(\w+)"', DOCUMENT.read_text()))
    source = (ROOT / "service" / "errors.py").read_text()
    defined = set(re.findall(r'status, code = \d+, "(\w+)"', source))
    assert defined == codes


def test_the_parameters_are_those_of_the_schema() -> None:
    found = PARAMETERS.search(DOCUMENT.read_text())
    assert found
    assert tell_parameters() == found[0]


def write() -> None:
    """Run all lines and put their answers in."""

    def rewrite(section: re.Match[str]) -> str:
        with (
            tempfile.TemporaryDirectory() as folder,
            serve(section["settings"], Path(folder)) as server,
        ):
            return EXAMPLE.sub(
                lambda e: f"```sh\n{e['line']}```\n\n```http\n{run(e['line'], server)}```",
                section[0],
            )

    text = PARAMETERS.sub(lambda _: tell_parameters(), DOCUMENT.read_text())
    DOCUMENT.write_text(SECTION.sub(rewrite, text))


if __name__ == "__main__":
    write()
