"""Counts requests lost when servers stop, are replaced or die under steady load.

Every request must be answered with 200 and the right class. Any other outcome is a lost request.
The nginx configuration is the one in docs/explanation/reliability-restarts.md.
"""

import asyncio
import contextlib
import getpass
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from tests.reliability import servers
from tests.reliability.client import Client, Reply, connect
from tests.reliability.overload import read_index
from tests.reliability.photographs import make_request
from tests.server import (
    ROOT,
    LaunchedServer,
    Server,
    find_free_port,
    start_server,
    start_server_at,
    wait_until,
)
from tests.service.quadrants_model import encode, light

RATE = 40.0  # requests per second of the tiny model, far below the capacity
CALM_SECONDS = 1.0  # of load before the fault and after the recovery
NOTICE_SECONDS = 0.1  # until a client notices that its open connection is dead
READINESS_SECONDS = 0.5  # between two readiness probes of the balancer
PATIENCE = 60.0
DOCUMENT = ROOT / "docs" / "explanation" / "reliability-restarts.md"


class Loss(NamedTuple):
    """The outcome of a load during a fault."""

    sent: int
    answered: int  # 200 and the right class
    lost: dict[str, int]  # counts by the wrong outcome
    note: str = ""


class Exchange(NamedTuple):
    """A request and its reply."""

    quarter: int
    reply: Reply


Fault = Callable[[], Awaitable[str]]


async def load_during(port: int, fault: Fault, requests: list[bytes]) -> tuple[list[Exchange], str]:
    """Run steady load during the fault and a while after. Return the outcomes and its note."""
    outcomes: list[asyncio.Task[Exchange]] = []
    ended = asyncio.Event()

    async def ask(client: Client, quarter: int) -> Exchange:
        return Exchange(quarter, await client.send(requests[quarter]))

    async def send(client: Client) -> None:
        started = perf_counter()
        for number in itertools.count():
            if ended.is_set():
                return
            if (pause := started + number / RATE - perf_counter()) > 0:
                await asyncio.sleep(pause)
            outcomes.append(asyncio.create_task(ask(client, number % len(requests))))

    async with connect(port, PATIENCE) as client:
        sending = asyncio.create_task(send(client))
        await asyncio.sleep(CALM_SECONDS)
        note = await fault()
        ended.set()
        await sending
        return await asyncio.gather(*outcomes), note


def count_losses(outcomes: list[Exchange], note: str = "") -> Loss:
    """Count the right answers, and the others by outcome."""
    lost: Counter[str] = Counter()
    for quarter, reply in outcomes:
        if reply.status != 200:
            lost[reply.fault or str(reply.status)] += 1
        elif read_index(reply) != quarter:
            lost["wrong answer"] += 1
    return Loss(len(outcomes), len(outcomes) - lost.total(), dict(lost), note)


def make_quarters(subject: str = servers.SIGHTGLASS) -> list[bytes]:
    """Return a request for each quarter, as JPEG, because stock BentoML expects one."""
    return [servers.ask(subject, encode(light(quarter), "JPEG")) for quarter in range(4)]


def learn_quarters(server: Server, subject: str) -> tuple[list[bytes], list[int]]:
    """Return a request for each quarter, and the class that the server's model predicts."""
    requests = make_quarters(subject)

    async def ask() -> list[int]:
        async with connect(server.port, PATIENCE) as client:
            return [read_index(await client.send(request)) for request in requests]

    return requests, asyncio.run(ask())


def stop_alone(
    server: LaunchedServer, requests: list[bytes], expected: list[int], port: int | None = None
) -> Loss:
    """Send SIGTERM to the launcher only, behind a balancer that polls `/readyz`.

    The load goes to `port`, which is the server's own unless a proxy is in front of it.
    """

    async def stop() -> str:
        server.process.send_signal(signal.SIGTERM)
        started = perf_counter()
        probe = make_request("/readyz", method="GET")
        async with connect(server.port, PATIENCE) as client:
            while (reply := await client.send(probe)).status == 200:
                assert perf_counter() < started + PATIENCE, server.read_log()
                await asyncio.sleep(READINESS_SECONDS)
        return f"/readyz said {reply.status or reply.fault} after {perf_counter() - started:.1f} s"

    outcomes, note = asyncio.run(load_during(port or server.port, stop, requests))
    code = server.process.wait(PATIENCE)
    outcomes = [Exchange(expected[quarter], reply) for quarter, reply in outcomes]
    return count_losses(outcomes, f"{note}; exit code {code}")


def read_nginx_configuration(ports: list[int], own_port: int, folder: Path) -> str:
    """Return the documented configuration as a whole file with these ports."""
    [block] = re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    for number, port in enumerate(ports, 3001):
        block = block.replace(f"127.0.0.1:{number}", f"127.0.0.1:{port}")
    block = block.replace("listen 80;", f"listen 127.0.0.1:{own_port};")
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return (
        f"user {getpass.getuser()};\nworker_processes 1;\ndaemon off;\n"
        f"error_log {folder}/error.log;\npid {folder}/pid;\n"
        f"events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{paths}{block}}}\n"
    )


@contextlib.contextmanager
def start_nginx(ports: list[int], folder: Path) -> Iterator[int]:
    """Start nginx in front of servers on these ports. Return nginx's port."""
    own_port = find_free_port()
    folder.mkdir()
    path = folder / "nginx.conf"
    path.write_text(read_nginx_configuration(ports, own_port, folder))
    command = [find_nginx(), "-p", str(folder), "-c", str(path), "-e", str(folder / "error.log")]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: is_listening(own_port), PATIENCE)
        yield own_port
    finally:
        process.terminate()
        process.wait(10)


def is_listening(port: int) -> bool:
    """Return whether a process listens on the port."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def find_nginx() -> str:
    """Return the path of nginx.

    Raises:
        FileNotFoundError: nginx is not installed.
    """
    path = shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if path is None:
        raise FileNotFoundError("There is no nginx here: apt-get install nginx-light.")
    return path


def restart_rolling(models: Path, folder: Path) -> Loss:
    """Stop two instances behind nginx one after the other, and start each again on its port."""
    settings = {"drain_seconds": 1}
    with contextlib.ExitStack() as stack:
        pair = [stack.enter_context(start_server(models, folder, **settings)) for _ in range(2)]
        for server in pair:
            server.wait_ready()
        ports = [server.port for server in pair]
        nginx_port = stack.enter_context(start_nginx(ports, folder / "nginx"))

        async def restart() -> str:
            for server in pair:
                await asyncio.to_thread(server.stop)
                fresh = start_server_at(server.port, models, folder, **settings)
                await asyncio.to_thread(stack.enter_context(fresh).wait_ready)
                await asyncio.sleep(CALM_SECONDS)
            return "each was stopped and started anew"

        outcomes, note = asyncio.run(load_during(nginx_port, restart, make_quarters()))
    return count_losses(outcomes, note)


def wait_workers(server: Server, count: int) -> None:
    """Wait until this many workers are ready."""

    wait_until(lambda: count_ready(server) >= count, PATIENCE, server.read_log)


def count_ready(server: Server) -> int:
    """Return how many workers have logged that they are ready."""
    return len(re.findall(r'"event": ?"ready"', server.read_log()))


class Death(NamedTuple):
    """The cost of one worker's death."""

    loss: Loss
    in_flight: int  # requests of both workers unanswered at its death or sent right after
    lost_later: int  # lost, although sent later than that
    replaced_seconds: float  # until the new worker was ready


def kill_worker(
    server: Server,
    requests: list[bytes],
    expected: list[int],
    number: signal.Signals = signal.SIGKILL,
) -> Death:
    """Send SIGKILL to one of two workers under load, or SIGSTOP, which makes it hang."""
    victim = server.find_workers()[0]
    died, replaced = 0.0, 0.0

    async def kill() -> str:
        nonlocal died, replaced
        ready = count_ready(server)
        died = perf_counter()
        os.kill(victim, number)
        while count_ready(server) == ready:
            assert perf_counter() < died + PATIENCE, server.read_log()
            await asyncio.sleep(0.1)
        replaced = perf_counter()
        await asyncio.sleep(CALM_SECONDS)
        return ""

    outcomes, note = asyncio.run(load_during(server.port, kill, requests))
    outcomes = [Exchange(expected[quarter], reply) for quarter, reply in outcomes]
    later = [one for one in outcomes if one.reply.sent_at > died + NOTICE_SECONDS]
    in_flight = [
        one
        for one in outcomes
        if one.reply.sent_at <= died + NOTICE_SECONDS
        and died < one.reply.sent_at + one.reply.seconds
    ]
    return Death(
        count_losses(outcomes, note),
        len(in_flight),
        sum(count_losses(later).lost.values()),
        replaced - died,
    )
