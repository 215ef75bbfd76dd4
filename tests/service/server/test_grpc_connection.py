"""What a connection of gRPC holds and waits for, without a network."""

import asyncio
from typing import Any

import pytest

pytest.importorskip("h2", reason="gRPC needs the extra grpc")

from service.server.connections import Connections
from service.server.grpc import connection as module
from service.server.grpc.connection import GrpcConnection, Surroundings
from service.server.reading import MAX_WAITING_BYTES, Reading
from service.server.turns import Turns
from service.settings import Settings
from tests.attacks.grpc import HEADERS, PREFACE, SETTINGS, make_frame, make_headers

HELLO = PREFACE + make_frame(SETTINGS, 0, 0, b"")
FRAMES = 64  # of an unknown kind, which h2 passes over: four turns


class Transport(asyncio.Transport):
    """A transport that drops what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.closed = False
        self.reads = True

    def write(self, data: Any) -> None:
        """Send nothing."""

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def is_reading(self) -> bool:
        return self.reads

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Have no limits."""

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a slow machine not stop reading."""
    monkeypatch.setattr("service.server.reading.READING_SECONDS", 1000.0)


def make_surroundings() -> Surroundings:
    connections: dict[GrpcConnection, None] = {}
    reading = Reading(connections)
    everything = Connections(Settings.model_validate({}), lambda: False)

    async def answer(*_: object) -> None:
        """Answer nothing."""

    return Surroundings(
        answer,
        10,
        lambda: False,
        lambda: False,
        everything,
        connections,
        reading,
        Turns(reading.is_full),
    )


def connect(around: Surroundings) -> tuple[GrpcConnection, Transport]:
    connection, transport = GrpcConnection(around), Transport()
    connection.connection_made(transport)
    return connection, transport


def test_an_old_idle_connection_makes_room_for_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)

    async def run() -> list[bool]:
        around = make_surroundings()
        opened = [connect(around) for _ in range(3)]
        return [transport.closed for _, transport in opened]

    assert asyncio.run(run()) == [True, False, False]


def test_a_connection_whose_first_call_waits_for_its_turn_is_not_idle() -> None:
    async def run() -> None:
        connection, _ = connect(make_surroundings())
        connection.data_received(HELLO)
        assert connection.waits_since() is not None
        connection.data_received(make_frame(HEADERS, 4, 1, make_headers("Any", ("x", "y" * 9000))))
        assert connection.waits_since() is None
        connection.connection_lost(None)

    asyncio.run(run())


@pytest.mark.parametrize("is_lost", [False, True])
def test_frames_that_wait_for_their_turn_are_counted_until_then(is_lost: bool) -> None:
    async def run() -> None:
        around = make_surroundings()
        connection, transport = connect(around)
        around.reading.wait(MAX_WAITING_BYTES)
        connection.data_received(HELLO)
        connection.data_received(make_frame(42, 0, 0, bytes(60)) * FRAMES)
        assert around.reading.is_full()
        assert not transport.reads
        if is_lost:
            connection.connection_lost(None)
        async with asyncio.timeout(10):
            while around.reading.is_full():
                await asyncio.sleep(0)
        assert transport.reads or is_lost

    asyncio.run(run())


def test_long_headers_wait_for_their_turn() -> None:
    async def run() -> list[bool]:
        reads = []
        for size in (100, 9000):
            connection, transport = connect(make_surroundings())
            connection.data_received(HELLO)
            block = make_headers("ServerLive", ("x", "y" * size))
            connection.data_received(make_frame(HEADERS, 4, 1, block))
            reads.append(transport.reads)
            connection.connection_lost(None)
        return reads

    assert asyncio.run(run()) == [True, False]
