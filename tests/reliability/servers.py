"""Starts the two subjects: Sightglass with the bundled models, and stock BentoML with one model.

The module knows how to start each subject, how to send a request and how to measure its memory.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.contract.artifacts import wait_loaded
from tests.reliability.photographs import make_form
from tests.reliability.stock_bento import MODEL_VARIABLE
from tests.server import ROOT, LaunchedServer, Server, find_free_port, run_server, start_server

PHOTOGRAPHS = "efficientnet_lite0"  # the bundled model for photographs
SIGHTGLASS, STOCK = "sightglass", "stock"
SUBJECTS = (SIGHTGLASS, STOCK)
STOP_SECONDS = 30  # until stock BentoML is killed


@contextlib.contextmanager
def start(subject: str, folder: Path, **settings: Any) -> Iterator[LaunchedServer]:
    """Start a server and wait until all its models are loaded. `settings` are Sightglass's only."""
    if subject == STOCK:
        with start_stock(folder) as server:
            yield server
        return
    chosen: dict[str, Any] = {"default_model": PHOTOGRAPHS} | settings
    models = Path(str(chosen.pop("models_dir", ROOT / "models")))
    with start_server(models, folder, **chosen) as server:
        wait_loaded(server)
        yield server


@contextlib.contextmanager
def start_stock(folder: Path) -> Iterator[LaunchedServer]:
    """Start stock BentoML. Kill it if it does not end by itself."""
    port = find_free_port()
    own = {
        MODEL_VARIABLE: str(ROOT / "models" / PHOTOGRAPHS / "1" / "model.onnx"),
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(folder / f"bentoml-{port}"),
    }
    service = "tests.reliability.stock_bento:Stock"
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1"]
    command += ["--port", str(port)]
    with run_server(command, port, os.environ | own, folder / f"stock-{port}.log") as server:
        try:
            server.wait_ready()
            yield server
        finally:
            family = list[psutil.Process]()
            with contextlib.suppress(psutil.NoSuchProcess):  # a measurement may have stopped it
                family = psutil.Process(server.process.pid).children(recursive=True)
            server.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.process.wait(STOP_SECONDS)
            for member in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
            shutil.rmtree(own["BENTOML_HOME"], ignore_errors=True)


def ask(subject: str, content: bytes, *headers: str) -> bytes:
    """Return a request for the most probable labels of one picture."""
    field = "images" if subject == STOCK else "image"
    return make_form("/predict", [content], field, *headers)


def measure_memory(server: Server) -> int:
    """Return the resident bytes of the workers."""
    return sum(psutil.Process(pid).memory_info().rss for pid in server.find_workers())
