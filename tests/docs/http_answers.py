"""What a `curl` command answers, written as the pages show it: status, headers, body.

Long values are shown as `…`. Values that differ between machines and runs (times, digests,
decimals, boxes, counts) are shown as they were and not compared.
"""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

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
    "x-warnings",
)
CLOSING = "connection: close\n"
ELIDED = {"cam", "picture", "card", "request_id"}
WIDTH = 92
VOLATILE = (
    (re.compile(r'("sha256": ?)"[0-9a-f]{64}"'), r'\1"…"'),
    (re.compile(r'("box": ?)\[[^]]*\]'), r"\1[…]"),
    (re.compile(r'("maps": ?)\d+'), r"\1…"),
    (re.compile(r"\b\d+\.\d+(e-\d+)?\b"), "0.…"),
    (re.compile(r"\b\d+e-\d+\b"), "0.…"),
    (re.compile(r"about \S+ s"), "about … s"),
)
CURL = """#!/bin/sh
exec {curl} -sS -D "$HEADERS/$$" "$@"
"""


def run_curl(code: str, folder: Path, environment: Mapping[str, str], tools: Path) -> str:
    """Run a block in `folder` and say what its `curl` got; `tools` is an empty folder."""
    curl = shutil.which("curl")
    assert curl, "the pages' HTTP examples need curl"
    for part in ("bin", "headers"):
        (tools / part).mkdir()
    (tools / "bin" / "curl").write_text(CURL.format(curl=curl))
    (tools / "bin" / "curl").chmod(0o755)
    before = read_times(folder)
    ran = subprocess.run(
        ["bash", "-c", code + "wait"],
        cwd=folder,
        env={
            **environment,
            "PATH": f"{tools / 'bin'}{os.pathsep}{environment['PATH']}",
            "HEADERS": str(tools / "headers"),
        },
        stdout=subprocess.PIPE,
        check=False,
    )
    headers = sorted((tools / "headers").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert headers, f"no answer came to: {code}"
    written = [
        folder / name for name, time in read_times(folder).items() if before.get(name) != time
    ]
    body = written[0].read_bytes() if written else ran.stdout
    # Of two calls, the one in the foreground is answered first and is the one shown.
    head = describe_head(headers[0].read_text())
    return head + describe_body(body, written[0].name if written else None)


def read_times(folder: Path) -> dict[str, int]:
    """The files of a folder and when each was last written."""
    files = [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    return {path.name: path.stat().st_mtime_ns for path in files}


def describe_head(headers: str) -> str:
    """Status and the headers worth showing; of several answers the last."""
    first, *lines = headers.strip().split("\n\n")[-1].replace("\r", "").splitlines()
    values = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    shown = [f"{name}: {values[name]}" for name in SHOWN_HEADERS if name in values]
    return "\n".join([f"HTTP {first.split()[1]}", *shown]) + "\n"


def describe_body(body: bytes, file_name: str | None) -> str:
    """JSON shortened, a picture by its size, text as it is."""
    if not body:
        return ""
    with contextlib.suppress(ValueError):
        return "\n" + format_json(json.loads(body), "") + "\n"
    if file_name:
        with contextlib.suppress(OSError), Image.open(io.BytesIO(body)) as image:
            return f"\n({file_name}: {image.format}, {image.width} x {image.height} pixels)\n"
    return "\n" + body.decode().strip() + "\n"


def format_json(value: Any, indent: str) -> str:
    """On one line where it fits."""
    flat = json.dumps(elide(value), ensure_ascii=False)
    if len(indent) + len(flat) <= WIDTH or not isinstance(value, dict | list):
        return flat
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [
            f"{deeper}{json.dumps(key)}: {format_json(elide({key: item})[key], deeper)}"
            for key, item in value.items()
        ]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    return "[\n" + ",\n".join(deeper + format_json(v, deeper) for v in value) + f"\n{indent}]"


def elide(value: Any) -> Any:
    """Without what is long or changes every time."""
    if isinstance(value, dict):
        return {
            key: "…" if key in ELIDED and item is not None else elide(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [elide(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def mask_http(answer: str) -> str:
    """What must be the same on every machine."""
    for pattern, replacement in VOLATILE:
        answer = pattern.sub(replacement, answer)
    return answer.strip()


def is_same_answer(expected: str, answer: str) -> bool:
    """Whether an answer is the one shown, but for what differs between machines."""
    if CLOSING not in expected:  # a refusal may come before the last of a body, or after
        answer = answer.replace(CLOSING, "")
    return mask_http(expected) == mask_http(answer)
