"""The servers that are compared, each with the settings that its documentation recommends.

Each alternative has its own virtual environment under `.cache/bench/env`.
"""

import contextlib
import json
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from benchmarks.client import Request, make_form, post
from benchmarks.material import CACHE, MODELS, ROOT, Pictures
from benchmarks.server import Server, start_server
from service.machine import has_driver

OURS = "sightglass"  # in onnxruntime, like most of the others
OURS_BY_DEFAULT = "sightglass by default"  # in the engine that it chooses
ENVIRONMENTS = CACHE / "env"
COMMON = ("numpy", "onnxruntime", "pillow")
PACKAGES = {
    "fastapi": ("fastapi", "uvicorn[standard]"),
    "fastapi openvino": ("fastapi", "uvicorn[standard]", "openvino"),
    "litserve": ("litserve",),
    "bentoml": ("bentoml",),
    "mosec": ("mosec",),
}


@dataclass(frozen=True)
class Contender:
    """A server with one set of settings."""

    name: str
    kind: str  # a key of PACKAGES
    command: tuple[str, ...]
    processes: int
    threads: int  # for one run of the model
    batch: int = 8
    ready_path: str = "/metrics"
    path: str = "/predict"
    body: Literal["raw", "form", "json"] = "raw"  # how its documentation sends a picture
    spaced: bool = False  # its JSON has a space after each colon
    engine: Literal["onnxruntime", "openvino"] = "onnxruntime"

    def make_requests(self, pictures: Pictures, tops: Sequence[int]) -> list[Request]:
        """Make a request for each picture. Its answer must contain the right class."""
        requests = []
        for content, top in zip(pictures.files, tops, strict=True):
            body, media_type = self._make_body(content)
            needle = f'"index":{" " if self.spaced else ""}{top},'.encode()
            requests.append(Request(post(self.path, body, {"Content-Type": media_type}), needle))
        return requests

    def _make_body(self, content: bytes) -> tuple[bytes, str]:
        if self.body == "form":
            return make_form("images", [content])
        if self.body == "json":
            return json.dumps({"image": b64encode(content).decode()}).encode(), "application/json"
        return content, "application/octet-stream"

    @contextlib.contextmanager
    def start(self, pictures: Pictures) -> Iterator[Server]:
        """Run the server with the model for these pictures."""
        home = CACHE / "bentoml"
        home.mkdir(parents=True, exist_ok=True)
        environment = {
            "BENCH_MODEL": str(pictures.path),
            "BENCH_ENGINE": self.engine,
            "BENCH_THREADS": str(self.threads),
            "BENCH_PROCESSES": str(self.processes),
            "BENCH_BATCH": str(self.batch),
            "BENTOML_HOME": str(home),
            "BENTOML_DO_NOT_TRACK": "True",
            "PYTHONPATH": ".",
        }
        program = find_python(self.kind)
        command = [str(program), *self.command]
        with start_server(
            self.name, command, Path(__file__).parent, environment, self.ready_path
        ) as server:
            yield server


LISTEN = ("--host", "127.0.0.1", "--port", "{port}")
UVICORN = ("-m", "uvicorn", "alternatives.fastapi_app:app", "--port", "{port}", "--no-access-log")
MOSEC = ("-m", "alternatives.mosec_app", "--address", "127.0.0.1", "--port", "{port}")
BENTOML = ("-m", "bentoml", "serve", "alternatives.bentoml_app:Classifier", *LISTEN)
ALTERNATIVES = (
    Contender("fastapi x2", "fastapi", (*UVICORN, "--workers", "2"), 2, 1, ready_path="/docs"),
    Contender("fastapi x1", "fastapi", UVICORN, 1, 2, ready_path="/docs"),
    Contender(
        "fastapi openvino x2",
        "fastapi openvino",
        (*UVICORN, "--workers", "2"),
        2,
        1,
        ready_path="/docs",
        engine="openvino",
    ),
    Contender(
        "fastapi openvino x1",
        "fastapi openvino",
        UVICORN,
        1,
        2,
        ready_path="/docs",
        engine="openvino",
    ),
    Contender(
        "litserve",
        "litserve",
        ("-m", "alternatives.litserve_app", "{port}"),
        2,
        1,
        ready_path="/health",
        body="json",
    ),
    Contender("bentoml", "bentoml", BENTOML, 2, 1, ready_path="/readyz", body="form", spaced=True),
    Contender("mosec x2", "mosec", MOSEC, 2, 1, path="/inference", spaced=True),
    Contender("mosec x1", "mosec", MOSEC, 1, 2, batch=1, path="/inference", spaced=True),
)
IN_OPENVINO = [contender.name for contender in ALTERNATIVES if contender.engine == "openvino"]


def make_our_requests(
    pictures: Pictures,
    tops: Sequence[int],
    call: str = "/predict",
    query: str = "",
    accept: str = "*/*",
    kind: int = 0,
) -> list[Request]:
    """Make requests to our own service.

    An answer must list the right label first, or a class of a mask with the right number of pixels.
    """
    path = f"{call}?model={pictures.model}{query}"
    headers = {"Content-Type": pictures.media_type, "Accept": accept}
    requests = []
    for content, top in zip(pictures.files, tops, strict=True):
        label = pictures.labels[0 if pictures.segments else top]
        needle = f'"predictions":[{{"label":"{label}",'
        if pictures.segments:
            needle = f',"pixels":{top},'
        elif call == "/gradcam" and accept.startswith("image/"):
            needle = f"x-predicted-label: {quote(label, safe='')}\r\n"
        requests.append(Request(post(path, content, headers), needle.encode(), kind))
    return requests


@contextlib.contextmanager
def start_ours(
    models_dir: Path = MODELS,
    awaited: str = "resnet18",
    cores: Sequence[int] | None = None,
    **settings: str,
) -> Iterator[Server]:
    """Run our own service with its defaults and `settings`, until the model `awaited` answers.

    Without a GPU it runs in onnxruntime, as most of the other servers do; `device="auto"` lets it
    choose.
    """
    environment = {"SIGHTGLASS_MODELS_DIR": str(models_dir)}
    environment["SIGHTGLASS_DEVICE"] = "auto" if has_driver() else "cpu"
    environment |= {f"SIGHTGLASS_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "service", "serve", "--port", "{port}"]
    ready = f"/v2/models/{awaited}/ready"
    with start_server(OURS, command, ROOT, environment, ready, cores) as server:
        yield server


@contextlib.contextmanager
def start_empty() -> Iterator[Server]:
    """Run BentoML with a service that does nothing."""
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "serve",
        "alternatives.bentoml_empty:Empty",
        *LISTEN,
    ]
    home = CACHE / "bentoml"
    home.mkdir(parents=True, exist_ok=True)
    environment = {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    with start_server("empty", command, Path(__file__).parent, environment, "/readyz") as server:
        yield server


def find_python(kind: str) -> Path:
    """The interpreter of an alternative's environment, which is created if it is missing."""
    folder = ENVIRONMENTS / kind
    program = folder / "bin" / "python"
    done = folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "--quiet", str(folder)], check=True)  # noqa: S603
        install = [*uv, "pip", "install", "--quiet", "--python", str(program)]
        subprocess.run([*install, *PACKAGES[kind], *COMMON], check=True)  # noqa: S603
        done.touch()
    return program
