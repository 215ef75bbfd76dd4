"""The load: requests for the C client, compiled on the spot, and what it saw.

Knows bytes and time; no server and no model.
"""

import json
import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.material import CACHE

SOURCE = Path(__file__).with_name("client.c")
GRACE_SECONDS = 60
MAX_CONNECTIONS = 512  # of an open loop


class ClientFault(Exception):
    """Why there is no load; one sentence."""


@dataclass(frozen=True)
class Ask:
    """One HTTP request, what its answer must contain, and which kind of request it is."""

    message: bytes
    needle: bytes
    kind: int = 0


@dataclass(frozen=True)
class Latency:
    """Answers of one kind; milliseconds."""

    answers: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Load:
    """What the client saw; `cpu` in seconds and `finished`, of requests, include the warm-up."""

    errors: int
    fault: str
    cpu: float
    finished: int
    kinds: dict[int, Latency]

    @property
    def answers(self) -> int:
        """Right answers of all kinds."""
        return sum(latency.answers for latency in self.kinds.values())


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A POST as it goes over the wire."""
    lines = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def make_form(name: str, contents: Sequence[bytes]) -> tuple[bytes, str]:
    """A multipart body as curl's `-F name=@…` makes it, and its type."""
    mark = "------------------------5f3e0c2a9b1d7e46"
    head = (
        f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="picture"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    parts = [head + content + b"\r\n" for content in contents]
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def build_client() -> Path:
    """The compiled client.

    Raises:
        ClientFault: there is no compiler, or it refuses.
    """
    program = CACHE / "client"
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ClientFault("The load's client is C: install a compiler, as in: apt install gcc")
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-o", str(program), str(SOURCE), "-lm"]
    ran = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if ran.returncode:
        raise ClientFault(f"The load's client does not compile (it needs Linux): {ran.stderr}")
    return program


def send_load(
    port: int,
    asks: Sequence[Ask],
    connections: int,
    seconds: float,
    warmup: float,
    rate: float = 0,
    poisson: bool = False,
) -> Load:
    """Send `asks` in turn for so long; with a `rate` (requests a second) in an open loop.

    Raises:
        ClientFault: the client could not connect.
    """
    packed = [struct.pack("=I", len(asks))]
    for ask in asks:
        packed += [struct.pack("=II", ask.kind, len(ask.message)), ask.message]
        packed += [struct.pack("=I", len(ask.needle)), ask.needle]
    ran = subprocess.run(  # noqa: S603
        [
            str(build_client()),
            *(str(value) for value in (port, connections, seconds, warmup, rate, int(poisson))),
        ],
        input=b"".join(packed),
        capture_output=True,
        timeout=seconds + warmup + GRACE_SECONDS,
    )
    if ran.returncode:
        raise ClientFault(f"The load's client failed: {ran.stderr.decode()}")
    told = json.loads(ran.stdout)
    kinds = {int(kind): Latency(**seen) for kind, seen in told["kinds"].items()}
    return Load(told["errors"], told["fault"], told["client_cpu"], told["finished"], kinds)
