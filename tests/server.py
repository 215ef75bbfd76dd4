"""Runs the real service in a subprocess on a free port of this machine.

Most tests need only one worker. `tests.warm_process.start_worker` starts that much faster.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from service.machine import has_driver

ROOT = Path(__file__).parents[1]
PATIENCE = 120  # seconds; a longer wait fails a test, however busy the machine is
# Without a GPU tests run in onnxruntime, so that no answer depends on what else is installed.
DEVICE = "auto" if has_driver() else "cpu"


@dataclass
class Server:
    """A running service and an HTTP client for it."""

    port: int
    pid: int
    log_path: Path
    client: httpx.Client

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}"

    def read_log(self) -> str:
        """Return everything the server has logged so far."""
        return self.log_path.read_text()

    def read_events(self) -> list[dict[str, Any]]:
        """Return the JSON lines of the log. The last line may be incomplete."""
        whole = self.read_log().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def wait_logged(self, *texts: str) -> str:
        """Wait until the log has all the texts, and return it. A line may come after its answer."""
        wait_until(lambda: all(text in self.read_log() for text in texts), describe=self.read_log)
        return self.read_log()

    def wait_events(
        self, is_meant: Callable[[dict[str, Any]], bool], count: int = 1
    ) -> list[dict[str, Any]]:
        """Wait until the log has `count` lines that are meant, and return all of them."""

        def find() -> list[dict[str, Any]]:
            return [event for event in self.read_events() if is_meant(event)]

        wait_until(lambda: len(find()) >= count, describe=self.read_log)
        return find()

    def wait_ready(self) -> None:
        """Wait until the default model can answer."""
        wait_until(self._is_ready, describe=lambda: f"not ready:\n{self.read_log()}")

    def wait_answering(self) -> None:
        """Wait until the port answers at all."""
        wait_until(self._is_alive, describe=lambda: f"not alive:\n{self.read_log()}")

    def is_running(self) -> bool:
        """Return whether the process is still running."""
        return bool(psutil.pid_exists(self.pid))

    def find_workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [self.pid]

    def _is_ready(self) -> bool:
        assert self.is_running(), f"it ended:\n{self.read_log()}"
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/readyz").status_code == 200
        return False

    def _is_alive(self) -> bool:
        assert self.is_running(), f"it ended:\n{self.read_log()}"
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/livez").status_code == 200
        return False


@dataclass
class LaunchedServer(Server):
    """A server with launcher, supervisor and workers, as users start it."""

    process: subprocess.Popen[bytes]

    def is_running(self) -> bool:
        return self.process.poll() is None

    def find_workers(self) -> list[int]:
        """Leave out the workers' children, which have the same command line."""
        found = {}
        for child in psutil.Process(self.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it may have ended in the meantime
                if "_bentoml_impl.worker.service" in child.cmdline():
                    found[child.pid] = child.ppid()
        return [pid for pid, parent in found.items() if parent not in found]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal to the launcher only, and wait until it ends."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


def wait_until(
    condition: Callable[[], bool], seconds: float = PATIENCE, describe: Callable[[], str] = str
) -> None:
    """Poll until `condition()` holds; fail with `describe()` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, describe()
        time.sleep(0.05)


def find_free_port() -> int:
    """Return a port that no process listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_server(
    models_dir: Path, folder: Path, **settings: object
) -> contextlib.AbstractContextManager[LaunchedServer]:
    """Start `python -m service serve` with `settings` (lower-case names), and stop it at the end.

    The log goes to `folder`. The server may not be ready yet: see `Server.wait_ready`.
    """
    return start_server_at(find_free_port(), models_dir, folder, **settings)


@contextlib.contextmanager
def start_server_at(
    port: int, models_dir: Path, folder: Path, **settings: object
) -> Iterator[LaunchedServer]:
    """Start the server on the given port."""
    environment = make_environment({"models_dir": models_dir, **settings})
    command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
    with run_server(command, port, environment, folder / f"server-{port}.log") as server:
        yield server


@contextlib.contextmanager
def run_server(
    command: Sequence[str],
    port: int,
    environment: Mapping[str, str],
    log_path: Path,
    folder: Path = ROOT,
) -> Iterator[LaunchedServer]:
    """Run a server command in `folder`. If it still runs at the end, interrupt it."""
    with log_path.open("wb") as log_file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log_file, stderr=subprocess.STDOUT
        )
    with connect_client(port) as client:
        server = LaunchedServer(port, process.pid, log_path, client, process)
        try:
            yield server
        finally:
            if process.poll() is None:
                server.stop(signal.SIGINT)


def make_environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Return this process's environment with `settings` as its only SIGHTGLASS_ variables."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTGLASS_")}
    inherited["SIGHTGLASS_DEVICE"] = DEVICE
    return inherited | {f"SIGHTGLASS_{k.upper()}": str(v) for k, v in settings.items()}


def connect_client(port: int) -> httpx.Client:
    """Return an HTTP client for the server on `port` of this machine."""
    return httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)
