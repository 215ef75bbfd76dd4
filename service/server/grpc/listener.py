"""Listens for gRPC, with the limits of HTTP, and stops without losing a call.

All workers listen on the same port, and the system gives each new connection to one of them.
"""

import asyncio
import os
import socket

from starlette.types import ASGIApp

from service.inference.admission import Admission
from service.lifecycle import Lifecycle
from service.server.connections import SWEEP_SECONDS, Connections
from service.server.grpc.connection import GrpcConnection, Surroundings
from service.server.listening import prepare_listener
from service.server.reading import Reading
from service.server.turns import Turns
from service.settings import LISTEN_VARIABLE, Settings

BACKLOG = 2048
PAUSE_SECONDS = 0.02  # after a connection was ended, since its calls all end now


class GrpcListener:
    """The port and its connections."""

    def __init__(
        self,
        settings: Settings,
        application: ASGIApp,
        lifecycle: Lifecycle,
        admission: Admission,
        all_connections: Connections,
    ) -> None:
        self._address = (os.environ.get(LISTEN_VARIABLE, "127.0.0.1"), settings.grpc_port)
        self._connections: dict[GrpcConnection, None] = {}
        reading = Reading(self._connections)
        self._surroundings = Surroundings(
            application,
            settings.request_timeout_ms / 1000,
            lambda: lifecycle.draining,
            admission.memory.is_short_of_room,
            all_connections,
            self._connections,
            reading,
            Turns(reading.is_full),
        )
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen on the port.

        Raises:
            OSError: It can't be used.
        """
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(self._connect, sock=listener, backlog=BACKLOG)
            for listener in prepare_listener(bind(*self._address))
        ]
        self._watching = loop.create_task(self._watch())

    async def stop(self) -> None:
        """Take no more connections, let the open calls end, and close what is left."""
        if not self._servers:
            return
        for server in self._servers:
            server.close()
        self._watching.cancel()
        for connection in list(self._connections):
            connection.retire()
        lost = [connection.is_lost.wait() for connection in self._connections]
        if lost:
            waiting = asyncio.gather(*lost)
            try:
                await asyncio.wait_for(waiting, self._surroundings.timeout_seconds)
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()

    async def _watch(self) -> None:
        """Look after answers that their clients do not take, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for connection in list(self._connections):
                if connection.sweep(loop.time()):
                    await asyncio.sleep(PAUSE_SECONDS)

    def _connect(self) -> GrpcConnection:
        return GrpcConnection(self._surroundings)


def bind(host: str, port: int) -> socket.socket:
    """Return a socket on the address, which other workers may use at the same time.

    Raises:
        OSError: It can't be used.
    """
    [(family, _, _, _, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    is_shared = hasattr(socket, "SO_REUSEPORT")  # Windows does not have it
    listener = socket.create_server(address, family=family, backlog=BACKLOG, reuse_port=is_shared)
    listener.setblocking(False)
    return listener
