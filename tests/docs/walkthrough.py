"""Walks a page as a reader does: writes its files, runs its commands, notes their answers.

`sh run` blocks are commands, `python run` blocks are scripts, or files if they begin with a comment
`# name.py`. A `text` block after either holds what it prints, an `http` block the answer to its
`curl`. Everything happens in one folder, in the page's order. Commands talk to the bundled server,
until `make serve` or a comment `<!-- server: NAME=value -->` starts another one.

`python -m tests.docs.walkthrough docs/tutorials/quickstart.md` runs a page as it stands and puts
its answers in anew: into each answer block that is there, empty or not. It renews the pictures that
the page shows and the tables that come from the code, too. Knows nothing of what a page is about.
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
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from unittest import mock

from tests.contract.artifacts import wait_loaded
from tests.digits import write_mnist
from tests.docs.clone import clone, put_weights
from tests.docs.http_answers import is_same_answer, run_curl
from tests.docs.pages import is_same_picture, read_directives
from tests.docs.tables import renew_tables
from tests.package.wheel import write_installed_package
from tests.server import DEVICE, ROOT, Server, start_server
from tests.warm_process import start_worker

PART = re.compile(
    r"^<!-- server:(?P<settings>[^>]*)-->"
    r"|^```(?P<language>sh|python) run\n(?P<code>.*?)^```\n"
    r"(?:\n```(?P<kind>text|http)\n(?P<answer>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)
PICTURE = re.compile(r"!\[[^]]*\]\((?:\.\./|docs/)?pictures/([^)]+)\)")
PORT = "127.0.0.1:3000"
Start = Callable[..., AbstractContextManager[Server]]  # `start_server` or `start_worker`
FILE = re.compile(r"# (\S+\.py)\n")
TRAINING = re.compile(r"(?:python -m training .*\n)+")
SERVE = re.compile(
    r"^(?P<settings>(?:SIGHTGLASS_\w+=\S+ )*)make serve(?: MODELS=(?P<models>\S+))?$"
)
ANNOUNCED = "Sightglass is ready"
LAST_HINT = "-o heatmap.png\n"
DEFAULT_MODEL = "efficientnet_lite0"  # of `make serve`
VARYING = re.compile(r"epoch |[\d.]+ s: ")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[-+]\d+)?")


@dataclass(frozen=True)
class Step:
    """A command, script or file of a page, what it should print and what it did."""

    code: str
    kind: str  # of the answer: "text", "http", or "" where the page shows none
    expected: str
    printed: str
    exit_code: int

    def is_as_shown(self, mask: Callable[[str], str] = str) -> bool:
        """Whether it printed what the page says; `mask` takes away what else may differ."""
        if self.kind == "http":
            return is_same_answer(self.expected, self.printed)
        expected, printed = mask(mask_text(self.expected)), mask(mask_text(self.printed))
        return self.exit_code == 0 and (not self.kind or expected == printed)


class Walk:
    """A reader in a clone of their own."""

    def __init__(
        self,
        folder: Path,
        stack: ExitStack,
        find_server: Callable[[], Server] | None = None,
        find_launched: Callable[[], Server] | None = None,
        quick: bool = False,
        changes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`find_server` gives a server of the bundled models for calls, and `find_launched` the one
        that `make serve` starts; without them the walk starts one if needed.

        `quick` trains for one epoch, in this process, and `changes` replaces parts of the code.
        """
        self.folder, self.stack, self.quick, self.changes = folder, stack, quick, changes
        self.find_server = find_server or self.start_bundled
        self.find_launched = find_launched or self.start_bundled
        self.server: Server | None = None  # the one that commands talk to now
        self.own = stack.enter_context(ExitStack())  # holds the page's own server
        self.bundled: Server | None = None
        clone(folder)
        put_weights(folder / ".torch")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTGLASS_")}
        self.environment = inherited | {
            "SIGHTGLASS_DATA": os.environ.get("SIGHTGLASS_DATA", ""),
            "SIGHTGLASS_DEVICE": DEVICE,
            **write_installed_package(),  # as if the wheel were installed
            "BENTOML_HOME": str(folder / ".bentoml"),
            "TORCH_HOME": str(folder / ".torch"),
            "NO_COLOR": "1",
        }

    def use_drawn_digits(self) -> None:
        """The data sets are then a few hundred drawn digits instead of MNIST."""
        write_mnist(self.folder / "data")
        self.environment["SIGHTGLASS_DATA"] = str(self.folder / "data")

    def steps(self, text: str) -> Iterator[Step]:
        """Every block of a page that is run, in order."""
        for part in PART.finditer(text):
            if part["settings"] is not None:
                self.change_server(part["settings"])
            else:
                yield self.take(part)

    def take(self, part: re.Match[str]) -> Step:
        """One block: written, started or run."""
        code, is_python = part["code"], part["language"] == "python"
        if part["kind"] == "http":
            printed, exit_code = self.call(code), 0
        elif is_python and (place := FILE.match(code)):
            (self.folder / place[1]).write_text(self.adapt(code))
            printed, exit_code = "", 0
        elif is_python:
            printed, exit_code = self.run([sys.executable, "-c", self.adapt(code)])
        elif serving := SERVE.match(strip_comments(code)):
            printed, exit_code = self.serve(serving["settings"], serving["models"]), 0
        elif self.quick and TRAINING.fullmatch(commands := strip_comments(code) + "\n"):
            printed, exit_code = self.train_all(self.change(commands).splitlines())
        else:
            printed, exit_code = self.run(["bash", "-c", self.adapt(code)])
        return Step(code, part["kind"] or "", part["answer"] or "", printed, exit_code)

    def serve(self, settings: str, models: str | None) -> str:
        """`make serve`, the bundled one if the page asks for nothing else; what it says then."""
        if settings or models:
            folder = self.folder / (models or "models")
            self.start_own(start_server, folder, parse_settings(settings))
        else:
            self.server = self.find_launched()
        server = self.server
        assert server
        hints = server.wait_logged(LAST_HINT).partition(ANNOUNCED)[2].partition(LAST_HINT)[0]
        return self.put_back(ANNOUNCED + hints + LAST_HINT)

    def change_server(self, settings: str) -> None:
        """What a comment `<!-- server: … -->` asks for; nothing is the bundled server."""
        own = parse_settings(settings)
        if own:
            self.start_own(start_worker, self.folder / own.pop("models_dir", "models"), own)
        else:
            self.own.close()
            self.server = self.find_server()

    def start_own(self, start: Start, models: Path, settings: dict[str, str]) -> None:
        """A server of the page's own, in the place of the one before."""
        self.own.close()
        if models.name == "models":
            settings = {"default_model": DEFAULT_MODEL} | settings
        # A folder that isn't there stays as the page names it, since the server repeats its name.
        models_dir = models if models.exists() else models.relative_to(self.folder)
        logs = Path(self.own.enter_context(tempfile.TemporaryDirectory()))
        self.server = self.own.enter_context(start(models_dir, logs, **settings))
        self.server.wait_answering()
        if models.exists():
            self.server.wait_ready()
            if "api_keys" not in settings:
                wait_loaded(self.server)

    def start_bundled(self) -> Server:
        """The service as `make serve` starts it, once for the walk."""
        if self.bundled is None:
            logs = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
            self.bundled = self.stack.enter_context(
                start_server(ROOT / "models", logs, default_model=DEFAULT_MODEL)
            )
            wait_loaded(self.bundled)
        return self.bundled

    def call(self, code: str) -> str:
        """What a block's `curl` is answered."""
        with tempfile.TemporaryDirectory() as tools:
            answer = run_curl(self.adapt(code), self.folder, self.environment, Path(tools))
        return self.put_back(answer)

    def run(self, command: list[str]) -> tuple[str, int]:
        """What a command prints, its complaint if it fails, and its exit code."""
        ran = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        return self.put_back(ran.stdout + (ran.stderr if ran.returncode else "")), ran.returncode

    def train_all(self, lines: list[str]) -> tuple[str, int]:
        """Several training commands, until one fails."""
        printed = ""
        for line in lines:
            said, exit_code = self.train(shlex.split(line)[3:])
            printed += said
            if exit_code:
                return printed, exit_code
        return printed, 0

    def train(self, arguments: list[str]) -> tuple[str, int]:
        """A training command in this process, which has torch loaded; one epoch is enough."""
        from training.__main__ import main

        if arguments[0] == "fit":
            arguments = [*arguments, "--set", "epochs=1"]
        output, complaint = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            mock.patch.object(sys, "argv", ["training", *arguments]),
            mock.patch.dict(os.environ, self.environment),
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(complaint),
        ):
            exit_code = main()
        printed = output.getvalue() + (complaint.getvalue() if exit_code else "")
        return self.put_back(printed), exit_code

    def change(self, code: str) -> str:
        """The code with the walk's changes."""
        for old, new in self.changes.items():
            code = code.replace(old, new)
        return code

    def adapt(self, code: str) -> str:
        """The code with the walk's changes, asking the server where it really is."""
        if PORT in code and self.server is None:
            self.server = self.find_server()
        code = self.change(code)
        return code.replace(PORT, f"127.0.0.1:{self.server.port}") if self.server else code

    def put_back(self, printed: str) -> str:
        """What a reader would see, whose clone and port are their own."""
        printed = printed.replace(f"{self.folder.resolve()}/", "").replace(f"{self.folder}/", "")
        if self.server:
            printed = printed.replace(f"127.0.0.1:{self.server.port}", PORT)
        lines = [line.rstrip() for line in printed.splitlines()]
        return "\n".join(lines).strip("\n") + "\n" if any(lines) else ""


def parse_settings(text: str) -> dict[str, str]:
    """`NAME=value` pairs, with or without the prefix, as `start_server` takes them."""
    pairs = [pair.removeprefix("SIGHTGLASS_").split("=", 1) for pair in text.split()]
    return {name.lower(): value for name, value in pairs}


def strip_comments(code: str) -> str:
    """The commands of a block alone, continued lines joined."""
    lines = code.replace("\\\n", " ").splitlines()
    return "\n".join(filter(None, (re.sub(r"(^|\s+)# .*", "", line).strip() for line in lines)))


def mask_text(printed: str) -> str:
    """Without what differs between machines and runs: numbers, spaces, epochs and judgements."""
    lines = [line for line in printed.splitlines() if not VARYING.match(line)]
    return re.sub(r"[ -]+", " ", NUMBER.sub("0", "\n".join(lines))).strip()


def write_answers(page: Path) -> None:
    """Walk a page, and put in what was answered, the pictures that it shows and its tables."""
    text = page.read_text()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        walk = Walk(folder, stack)
        if "digits" in read_directives(text):
            walk.use_drawn_digits()

        def answer(part: re.Match[str]) -> str:
            if part["settings"] is not None:
                walk.change_server(part["settings"])
                return part[0]
            step = walk.take(part)
            print(step.code, step.printed, sep="\n", flush=True)  # noqa: T201
            if step.exit_code:
                sys.exit(f"{page} stays as it is: the last command failed.")
            head = f"```{part['language']} run\n{step.code}```\n"
            return head + (f"\n```{step.kind}\n{step.printed}```\n" if step.kind else "")

        page.write_text(renew_tables(PART.sub(answer, text)))
        for name in PICTURE.findall(text):
            shown = ROOT / "docs" / "pictures" / name
            if (folder / name).exists() and not is_same_picture(folder / name, shown):
                shutil.copy(folder / name, shown)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        write_answers(Path(argument).resolve())
