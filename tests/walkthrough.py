"""Walks a document as a reader does: writes its files, runs its commands, notes their answers.

Of a document's fenced blocks, `python` ones that begin with a comment `# path` are files and others
are scripts; `sh` ones are commands; a `text` one after either is what it printed. `make serve` is
started and stays up till the end. `python -m tests.walkthrough docs/quickstart.md` puts the answers
in anew, and the pictures that the document shows. Knows nothing of what a document is about.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from tests.server import ROOT, Server, start_server, wait_until

BLOCK = re.compile(
    r"^```(?P<kind>sh|python)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
PICTURE = re.compile(r"!\[[^]]*\]\(pictures/([^)]+)\)")
PORT = "127.0.0.1:3000"
TRAINING = re.compile(r"python -m training (?P<arguments>.*)\n")
LINKED = ("README.md", "docs", "loadtests", "service", "tests", "training")
SERVE = re.compile(r"^make serve(?: MODELS=(?P<models>\S+))?$")
ANNOUNCED = "Sightglass is ready"
VARYING = re.compile(r"epoch |[\d.]+ s: ")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[-+]\d+)?")

PICTURE_TOLERANCE = 8  # of 255: a map's rounding, seen through its colours


@dataclass(frozen=True)
class Step:
    """A command, script or file of a document, what it should print and what it did."""

    code: str
    expected: str | None  # None where the document doesn't say
    printed: str
    exit_code: int


class Walk:
    """A reader in a clone of their own, whose server may be up."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        running: Server | None = None,
        quick: bool = False,
        changes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder, self.stack, self.running, self.quick = folder, stack, running, quick
        self.changes = changes
        self.server: Server | None = None
        clone(folder)
        put_weights(folder / ".torch")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTGLASS_")}
        self.environment = inherited | {
            "SIGHTGLASS_DATA": os.environ.get("SIGHTGLASS_DATA", ""),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BENTOML_HOME": str(folder / ".bentoml"),
            "TORCH_HOME": str(folder / ".torch"),
            "NO_COLOR": "1",
        }

    def steps(self, text: str) -> Iterator[Step]:
        """Every block of a document in order."""
        for block in BLOCK.finditer(text):
            yield self.take(block)

    def take(self, block: re.Match[str]) -> Step:
        """One block: written, started or run."""
        code, place = block["code"], re.match(r"# (\S+\.py)\n", block["code"])
        if block["kind"] == "python" and place:
            (self.folder / place[1]).write_text(self.moved(code))
            printed, exit_code = "", 0
        elif serving := SERVE.match(code.partition("  #")[0].strip()):
            printed, exit_code = self.serve(serving["models"]), 0
        elif self.quick and (training := TRAINING.fullmatch(code)):
            printed, exit_code = self.train(shlex.split(training["arguments"]))
        elif block["kind"] == "python":
            printed, exit_code = self.run([sys.executable, "-c", self.moved(code)])
        else:
            printed, exit_code = self.run(["bash", "-c", self.moved(code)])
        return Step(code, block["printed"], printed, exit_code)

    def serve(self, own: str | None) -> str:
        """`make serve`, of an own tree or the bundled one, which may be up; what it says then."""
        settings: dict[str, Any] = {} if own else {"default_model": "squeezenet1_1"}
        server = self.server = (None if own else self.running) or self.stack.enter_context(
            start_server(self.folder / (own or "models"), self.folder, **settings)
        )
        wait_until(lambda: ANNOUNCED in server.read_log(), describe=server.read_log)
        told = server.read_log().partition(ANNOUNCED)[2].splitlines()[:3]
        return self.put_back(ANNOUNCED + "\n".join(told))

    def run(self, command: list[str]) -> tuple[str, int]:
        """What a command prints, its complaint if it fails, and its exit code."""
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        return self.put_back(ran.stdout + (ran.stderr if ran.returncode else "")), ran.returncode

    def train(self, arguments: list[str]) -> tuple[str, int]:
        """A training command in this process, which has torch loaded; one epoch is enough."""
        from training.__main__ import main

        if arguments[0] == "fit":
            arguments = [*arguments, "--set", "epochs=1"]
        told, complaint = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.object(sys, "argv", ["training", *arguments]),
            mock.patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(told),
            contextlib.redirect_stderr(complaint),
        ):
            exit_code = main()
        printed = told.getvalue() + (complaint.getvalue() if exit_code else "")
        return self.put_back(printed), exit_code

    def moved(self, code: str) -> str:
        """The code, changed as was wished, asking the server where it really is."""
        for old, new in self.changes.items():
            code = code.replace(old, new)
        if self.server is None:
            return code
        return code.replace(PORT, f"127.0.0.1:{self.server.port}")

    def put_back(self, printed: str) -> str:
        """What a reader would see, whose clone and port are their own."""
        printed = printed.replace(f"{self.folder.resolve()}/", "").replace(f"{self.folder}/", "")
        if self.server:
            printed = printed.replace(f"127.0.0.1:{self.server.port}", PORT)
        lines = [line.rstrip() for line in printed.splitlines()]
        return "\n".join(lines).strip("\n") + "\n" if any(lines) else ""


def clone(folder: Path) -> None:
    """The project in a folder where a reader may write: models of its own, the rest linked."""
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    for version in (ROOT / "models").glob("*/*/"):
        own = folder / version.relative_to(ROOT)
        own.parent.mkdir(parents=True, exist_ok=True)  # what is exported becomes a version of it
        own.symlink_to(version)


def put_weights(home: Path) -> None:
    """Where torchvision looks before it fetches: SqueezeNet's weights, if they are at hand."""
    file = Path(os.environ.get("SIGHTGLASS_DATA", "data"), "weights", "squeezenet1_1_imagenet.npz")
    if not file.exists():
        return
    import torch
    from torchvision import models

    from training.networks.weights import read_state_dict

    url = models.SqueezeNet1_1_Weights.IMAGENET1K_V1.url
    place = home / "hub" / "checkpoints" / Path(url).name
    place.parent.mkdir(parents=True)
    torch.save(read_state_dict(file), place)


def mask(printed: str) -> str:
    """Without what differs between machines and runs: numbers, spaces, epochs and judgements."""
    lines = [line for line in printed.splitlines() if not VARYING.match(line)]
    return re.sub(r"[ -]+", " ", NUMBER.sub("0", "\n".join(lines))).strip()


def write(document: Path) -> None:
    """Walk it, and put in what was answered; the pictures that it shows are put beside it."""
    text = document.read_text()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        walk = Walk(folder, stack)

        def told(block: re.Match[str]) -> str:
            step = walk.take(block)
            print(step.code, step.printed, sep="\n", flush=True)  # noqa: T201
            answer = f"\n```text\n{step.printed}```\n" if step.printed else ""
            return f"```{block['kind']}\n{step.code}```\n{answer}"

        document.write_text(BLOCK.sub(told, text))
        for name in PICTURE.findall(text):
            shown = document.parent / "pictures" / name
            if (folder / name).exists() and not alike(folder / name, shown):
                shutil.copy(folder / name, shown)


def alike(one: Path, other: Path) -> bool:
    """Whether two files hold the same picture, but for rounding."""
    if not other.exists():
        return False
    a, b = (np.asarray(Image.open(path).convert("RGB"), int) for path in (one, other))
    return a.shape == b.shape and int(np.abs(a - b).max()) <= PICTURE_TOLERANCE


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write(ROOT / argument)
