"""Makes the content of the wheel: one package `sightglass`, from folders with other names.

The folders `service`, `training`, `client` and `hub` import each other's modules by full name, for
example `from service.errors import ApiError`. In the wheel they are parts of `sightglass`, so the
hook puts `sightglass.` before these names. It changes import statements only, found by Python's own
parser, and the commands `python -m …` in texts. Knows nothing of what the modules do.
"""

import ast
import io
import re
import shutil
import tempfile
import tokenize
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = "sightglass"
PARTS = ("service", "training", "client", "hub")
COMMAND = "command"  # becomes the top of the package
FILES = (
    "docs/examples/dog_and_cat.jpg",  # the ready message names it
    "models/lenet5/1/model.onnx",
    "models/efficientnet_lite0/1/model.onnx",
)
OMITTED = ("__pycache__",)
STRINGS = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", None))
COMMAND_LINE = re.compile(r"python -m (?:service|training)\b")  # in a text for people


class WheelHook(BuildHookInterface[Any]):
    """What hatchling calls."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the package to a temporary folder, and name it to hatchling."""
        self.folder = tempfile.TemporaryDirectory(prefix="wheel-")
        write_package(Path(self.root), Path(self.folder.name, PACKAGE))
        build_data["force_include"][f"{self.folder.name}/{PACKAGE}"] = PACKAGE

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder."""
        self.folder.cleanup()


def write_package(root: Path, target: Path) -> None:
    """Write the package `sightglass` of the repository at `root` into the folder `target`."""
    ignore = shutil.ignore_patterns(*OMITTED)
    shutil.copytree(root / COMMAND, target, ignore=ignore)
    for name in PARTS:
        shutil.copytree(root / name, target / name, ignore=ignore)
    for name in FILES:
        source, place = root / name, target / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)
    for path in target.rglob("*.py"):
        path.write_text(move_into_package(path.read_text("utf-8"), str(path)), "utf-8")


def move_into_package(source: str, name: str) -> str:
    """Return a module's source as a part of the package. `name` stands in errors."""
    changes = [*find_imports(source, name), *find_command_lines(source)]
    lines = source.split("\n")
    for row, start, end, text in sorted(changes, reverse=True):
        line = lines[row - 1].encode()  # the parser counts bytes
        lines[row - 1] = (line[:start] + text.encode() + line[end:]).decode()
    return "\n".join(lines)


def find_imports(source: str, name: str) -> list[tuple[int, int, int, str]]:
    """The row, start, end and new text of each name of ours that a module imports from.

    Raises:
        SyntaxError: `import service.errors`, since the name in the code after it would be another.
    """
    changes = []
    for node in ast.walk(ast.parse(source, name)):
        if isinstance(node, ast.Import) and any(is_ours(alias.name) for alias in node.names):
            raise SyntaxError(f"{name}, line {node.lineno}: write `from … import …` instead.")
        if isinstance(node, ast.ImportFrom) and not node.level and is_ours(node.module or ""):
            start = node.col_offset + len("from ")
            changes.append((node.lineno, start, start, f"{PACKAGE}."))
    return changes


def find_command_lines(source: str) -> list[tuple[int, int, int, str]]:
    """The row, start, end and new text of each command in a string, a docstring included."""
    lines, changes = source.split("\n"), []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in STRINGS:
            continue
        (first, start), (last, end) = token.start, token.end
        for row in range(first, last + 1):
            line = lines[row - 1]
            begin, stop = start if row == first else 0, end if row == last else len(line)
            for found in COMMAND_LINE.finditer(line, begin, stop):
                at, until = (len(line[:place].encode()) for place in found.span())
                changes.append((row, at, until, PACKAGE))
    return changes


def is_ours(module: str) -> bool:
    """Whether a module is one of those that move."""
    return module.partition(".")[0] in PARTS
