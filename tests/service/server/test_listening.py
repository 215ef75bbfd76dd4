"""A port is listened on several times, so that many connections are accepted at a time."""

import asyncio
import socket
import sys

import pytest
import uvicorn

from service.server.listening import (
    ACCEPTED_PER_TURN,
    KERNEL_BYTES,
    EagerServer,
    install_server,
    prepare_listener,
)

uvloop = pytest.importorskip("uvloop", reason="uvloop accepts one connection per socket and turn")
CONNECTIONS = 3 * ACCEPTED_PER_TURN


class Counter(asyncio.Protocol):
    """Counts the connections that were accepted."""

    made = 0

    def connection_made(self, _: asyncio.BaseTransport) -> None:
        Counter.made += 1


def count_turns(listeners: list[socket.socket]) -> int:
    """Return after how many turns of the loop all waiting connections were accepted."""

    async def run() -> int:
        loop = asyncio.get_running_loop()
        servers = [await loop.create_server(Counter, sock=listener) for listener in listeners]
        address, Counter.made = listeners[0].getsockname(), 0
        clients = [socket.create_connection(address) for _ in range(CONNECTIONS)]
        turns = 0
        async with asyncio.timeout(10):
            while Counter.made < CONNECTIONS:
                await asyncio.sleep(0)
                turns += 1
        for client in clients:
            client.close()
        for server in servers:
            server.close()
        return turns

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def test_many_connections_are_accepted_in_a_turn() -> None:
    with socket.create_server(("127.0.0.1", 0)) as alone:
        assert count_turns([alone]) >= CONNECTIONS
    listeners = prepare_listener(socket.create_server(("127.0.0.1", 0)))
    assert len(listeners) == ACCEPTED_PER_TURN
    assert count_turns(listeners) < CONNECTIONS / 2


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's connections inherit the option")
def test_the_kernel_holds_little_of_an_answer_that_is_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        first, *copies = prepare_listener(listener)
        with socket.create_connection(first.getsockname()), copies[0].accept()[0] as accepted:
            held = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT)
        for copy in copies:
            copy.close()
    assert held == KERNEL_BYTES


def test_bentoml_runs_our_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn, "Server", uvicorn.Server)
    install_server()
    assert uvicorn.Server is EagerServer
