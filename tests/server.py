"""The real service as a subprocess on a free port of this machine."""

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

ROOT = Path(__file__).parents[1]
PATIENCE = 120  # seconds until what must happen has happened, however busy the machine is


@dataclass
class Server:
    """A running service; `client` talks to it."""

    url: str
    process: subprocess.Popen[bytes]
    log_path: Path
    client: httpx.Client

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def read_log(self) -> str:
        """All it has said so far."""
        return self.log_path.read_text()

    def read_events(self) -> list[dict[str, Any]]:
        """The lines of JSON among it; the last line may be half written."""
        whole = self.read_log().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line.startswith("{")]

    def wait_ready(self) -> None:
        """Return once the default model can answer."""
        wait_until(self._is_ready, describe=lambda: f"not ready:\n{self.read_log()}")

    def wait_answering(self) -> None:
        """Return once the port answers at all."""
        wait_until(self._is_alive, describe=lambda: f"not alive:\n{self.read_log()}")

    def find_workers(self) -> list[int]:
        """The processes that answer requests; what they forked off has their command line, too."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it may have ended meanwhile
                if "_bentoml_impl.worker.service" in child.cmdline():
                    found[child.pid] = child.ppid()
        return [pid for pid, parent in found.items() if parent not in found]

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the parent alone and wait for its end."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"it ended:\n{self.read_log()}"
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/readyz").status_code == 200
        return False

    def _is_alive(self) -> bool:
        assert self.process.poll() is None, f"it ended:\n{self.read_log()}"
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/livez").status_code == 200
        return False


def wait_until(
    condition: Callable[[], bool], seconds: float = PATIENCE, describe: Callable[[], str] = str
) -> None:
    """Poll until `condition()` holds; fail with `describe()` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, describe()
        time.sleep(0.05)


def find_free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_server(
    models_dir: Path, folder: Path, **settings: object
) -> contextlib.AbstractContextManager[Server]:
    """Start `python -m service serve` with `settings` (lower-case names), and end it afterwards.

    `folder` takes its log. The server may not be ready yet: see `Server.wait_ready`.
    """
    return start_server_at(find_free_port(), models_dir, folder, **settings)


@contextlib.contextmanager
def start_server_at(
    port: int, models_dir: Path, folder: Path, **settings: object
) -> Iterator[Server]:
    """The same, at a port of the caller's choice."""
    own = {f"SIGHTGLASS_{name.upper()}": str(value) for name, value in settings.items()}
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SIGHTGLASS_")}
    environment = inherited | {"SIGHTGLASS_MODELS_DIR": str(models_dir)} | own
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
) -> Iterator[Server]:
    """Run a command that serves at `port`, in `folder`; interrupt it if it runs at the end."""
    with log_path.open("wb") as log_file:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log_file, stderr=subprocess.STDOUT
        )
    url = f"http://127.0.0.1:{port}"
    with httpx.Client(base_url=url, timeout=PATIENCE) as client:
        server = Server(url, process, log_path, client)
        try:
            yield server
        finally:
            if process.poll() is None:
                server.stop(signal.SIGINT)
