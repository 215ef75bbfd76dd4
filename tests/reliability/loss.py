"""Is a request lost when servers stop, are replaced, or die? Under steady load, with real signals.

Each test gives what became of every request that was sent; a lost one is any that was not answered
with 200 and the right class. Knows nginx by the configuration that
docs/explanation/reliability-restarts.md shows.
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

RATE = 40.0  # requests a second, of the tiny model: far below the capacity
CALM_SECONDS = 1.0  # of load before the fault, and after all is said to be well
NOTICE_SECONDS = 0.1  # until a client knows that its kept connection has died, too
READINESS_SECONDS = 0.5  # between two looks of the balancer
PATIENCE = 60.0
DOCUMENT = ROOT / "docs" / "explanation" / "reliability-restarts.md"


class Loss(NamedTuple):
    """What became of a load during which something happened."""

    sent: int
    answered: int  # 200 and the right class
    lost: dict[str, int]  # how often, by what came instead
    note: str = ""


class Asked(NamedTuple):
    """A request, and what must come of it."""

    quarter: int
    reply: Reply


Fault = Callable[[], Awaitable[str]]


async def load_during(port: int, fault: Fault, requests: list[bytes]) -> tuple[list[Asked], str]:
    """Steady load while the fault is done, and a while after; what it has to say."""
    asked: list[asyncio.Task[Asked]] = []
    ended = asyncio.Event()

    async def ask(client: Client, quarter: int) -> Asked:
        return Asked(quarter, await client.send(requests[quarter]))

    async def send(client: Client) -> None:
        started = perf_counter()
        for number in itertools.count():
            if ended.is_set():
                return
            if (pause := started + number / RATE - perf_counter()) > 0:
                await asyncio.sleep(pause)
            asked.append(asyncio.create_task(ask(client, number % len(requests))))

    async with connect(port, PATIENCE) as client:
        sending = asyncio.create_task(send(client))
        await asyncio.sleep(CALM_SECONDS)
        note = await fault()
        ended.set()
        await sending
        return await asyncio.gather(*asked), note


def count_losses(asked: list[Asked], note: str = "") -> Loss:
    """Those with an answer, and what the others got."""
    lost: Counter[str] = Counter()
    for quarter, reply in asked:
        if reply.status != 200:
            lost[reply.fault or str(reply.status)] += 1
        elif read_index(reply) != quarter:
            lost["wrong answer"] += 1
    return Loss(len(asked), len(asked) - lost.total(), dict(lost), note)


def make_quarters(subject: str = servers.SIGHTGLASS) -> list[bytes]:
    """A request for each quarter; stock BentoML opens what is called a JPEG as nothing else."""
    return [servers.ask(subject, encode(light(quarter), "JPEG")) for quarter in range(4)]


def learn_quarters(server: Server, subject: str) -> tuple[list[bytes], list[int]]:
    """A request for each quarter, and the class that a server with another model names for it."""
    requests = make_quarters(subject)

    async def ask() -> list[int]:
        async with connect(server.port, PATIENCE) as client:
            return [read_index(await client.send(request)) for request in requests]

    return requests, asyncio.run(ask())


def stop_alone(
    server: LaunchedServer, requests: list[bytes], expected: list[int], port: int | None = None
) -> Loss:
    """SIGTERM to the parent alone, behind a balancer that looks at `/readyz` now and then.

    The load goes to `port`, which is the server's own unless there is something before it.
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

    asked, note = asyncio.run(load_during(port or server.port, stop, requests))
    code = server.process.wait(PATIENCE)
    asked = [Asked(expected[quarter], reply) for quarter, reply in asked]
    return count_losses(asked, f"{note}; exit code {code}")


def read_nginx_configuration(ports: list[int], own_port: int, folder: Path) -> str:
    """The configuration that the document shows, with these ports, as a whole file."""
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
    """nginx before servers on these ports; its own port."""
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
    """Whether somebody does."""
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def find_nginx() -> str:
    """Where it is.

    Raises:
        FileNotFoundError: nowhere.
    """
    path = shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if path is None:
        raise FileNotFoundError("There is no nginx here: apt-get install nginx-light.")
    return path


def restart_rolling(models: Path, folder: Path) -> Loss:
    """Two pair behind nginx; each is stopped, and started again on its port, in turn."""
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

        asked, note = asyncio.run(load_during(nginx_port, restart, make_quarters()))
    return count_losses(asked, note)


def wait_workers(server: Server, count: int) -> None:
    """Return once so many workers answer, each at its own connections."""

    wait_until(lambda: count_ready(server) >= count, PATIENCE, server.read_log)


def count_ready(server: Server) -> int:
    """How many workers have said so far that they can answer."""
    return len(re.findall(r'"event": ?"ready"', server.read_log()))


class Death(NamedTuple):
    """What the death of one worker cost."""

    loss: Loss
    in_flight: int  # requests not answered when it died, or sent the moment after; of both workers
    lost_later: int  # sent a moment after its death or later, and lost
    replaced_seconds: float  # until its successor was ready


def kill_worker(server: Server, requests: list[bytes], expected: list[int]) -> Death:
    """SIGKILL to one of two workers under load."""
    victim = server.find_workers()[0]
    died, replaced = 0.0, 0.0

    async def kill() -> str:
        nonlocal died, replaced
        ready = count_ready(server)
        died = perf_counter()
        os.kill(victim, signal.SIGKILL)
        while count_ready(server) == ready:
            assert perf_counter() < died + PATIENCE, server.read_log()
            await asyncio.sleep(0.1)
        replaced = perf_counter()
        await asyncio.sleep(CALM_SECONDS)
        return ""

    asked, note = asyncio.run(load_during(server.port, kill, requests))
    asked = [Asked(expected[quarter], reply) for quarter, reply in asked]
    later = [one for one in asked if one.reply.sent_at > died + NOTICE_SECONDS]
    in_flight = [
        one
        for one in asked
        if one.reply.sent_at <= died + NOTICE_SECONDS
        and died < one.reply.sent_at + one.reply.seconds
    ]
    return Death(
        count_losses(asked, note),
        len(in_flight),
        sum(count_losses(later).lost.values()),
        replaced - died,
    )
