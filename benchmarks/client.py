"""Compiles the load client, which is written in C, runs it and reads its results.

It knows bytes and times; it knows nothing about servers or models.
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
MAX_CONNECTIONS = 512  # in an open loop


class ClientError(Exception):
    """The load client can't run; the message is one sentence."""


@dataclass(frozen=True)
class Request:
    """One HTTP request, the bytes that its answer must contain, and the kind of request."""

    message: bytes
    needle: bytes
    kind: int = 0


@dataclass(frozen=True)
class Latency:
    """The answers to one kind of request; times in milliseconds."""

    answers: int
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Load:
    """The results of the client. `cpu` (seconds) and `finished` (requests) include the warm-up."""

    errors: int
    fault: str
    cpu: float
    finished: int
    kinds: dict[int, Latency]

    @property
    def answers(self) -> int:
        """The number of right answers of all kinds."""
        return sum(latency.answers for latency in self.kinds.values())


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """The bytes of a POST request."""
    lines = {"Host": "127.0.0.1", "Content-Length": str(len(body)), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def make_form(name: str, contents: Sequence[bytes]) -> tuple[bytes, str]:
    """A multipart body as curl's `-F name=@…` makes it, and its media type."""
    boundary = "------------------------5f3e0c2a9b1d7e46"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="picture"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    parts = [head + content + b"\r\n" for content in contents]
    return b"".join(
        parts
    ) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def build_client() -> Path:
    """Compile the client if its source is newer than the program.

    Raises:
        ClientError: there is no compiler, or the source does not compile.
    """
    program = CACHE / "client"
    if program.exists() and program.stat().st_mtime > SOURCE.stat().st_mtime:
        return program
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise ClientError(
            "The load client needs a C compiler. Install one, for example: apt install gcc"
        )
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [compiler, "-O2", "-o", str(program), str(SOURCE), "-lm"]
    result = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if result.returncode:
        raise ClientError(f"The load client does not compile. It needs Linux: {result.stderr}")
    return program


def send_load(
    port: int,
    requests: Sequence[Request],
    connections: int,
    seconds: float,
    warmup: float,
    rate: float = 0,
    poisson: bool = False,
) -> Load:
    """Send `requests` in rotation. With a `rate` (requests per second) the loop is open.

    Raises:
        ClientError: the client could not connect.
    """
    packed = [struct.pack("=I", len(requests))]
    for request in requests:
        packed += [struct.pack("=II", request.kind, len(request.message)), request.message]
        packed += [struct.pack("=I", len(request.needle)), request.needle]
    result = subprocess.run(  # noqa: S603
        [
            str(build_client()),
            *(str(value) for value in (port, connections, seconds, warmup, rate, int(poisson))),
        ],
        input=b"".join(packed),
        capture_output=True,
        timeout=seconds + warmup + GRACE_SECONDS,
    )
    if result.returncode:
        raise ClientError(f"The load client failed: {result.stderr.decode()}")
    report = json.loads(result.stdout)
    kinds = {int(kind): Latency(**seen) for kind, seen in report["kinds"].items()}
    return Load(report["errors"], report["fault"], report["client_cpu"], report["finished"], kinds)
