"""A few connections are read in each turn of the event loop once that takes long."""

import asyncio
from time import perf_counter
from typing import Any

import pytest

from service.server import reading as reading_module
from service.server.reading import CONNECTIONS_PER_TURN, MAX_WAITING_BYTES, READING_SECONDS, Reading


class Connection:
    """A connection that is its own transport, as far as reading goes."""

    def __init__(self, *, wants: bool = True, has_received: bool = True) -> None:
        self.transport: Any = self
        self.has_received = has_received
        self._wants = wants
        self._is_read = wants

    def wants_reading(self) -> bool:
        return self._wants

    def is_reading(self) -> bool:
        return self._is_read

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self._is_read = False

    def resume_reading(self) -> None:
        self._is_read = True


def receive(reading: Reading, seconds: float) -> None:
    """Receive something, which takes some time, and something else after it."""
    reading.note()
    end = perf_counter() + seconds
    while perf_counter() < end:
        pass
    reading.note()


def test_after_a_long_turn_a_few_connections_are_read_in_each_turn() -> None:
    connections = [Connection() for _ in range(3 * CONNECTIONS_PER_TURN)]
    stopped = Connection(wants=False)

    async def run() -> list[int]:
        reading = Reading([*connections, stopped])
        counts = []
        receive(reading, 2 * READING_SECONDS)
        for _ in range(4):
            counts.append(sum(connection.is_reading() for connection in connections))
            await asyncio.sleep(0)
        return counts

    assert asyncio.run(run()) == [0, *(number * CONNECTIONS_PER_TURN for number in (1, 2, 3))]
    assert not stopped.is_reading()


def test_short_turns_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "READING_SECONDS", 1000.0)
    connections = [Connection() for _ in range(3)]

    async def run() -> None:
        reading = Reading(connections)
        for _ in range(5):
            receive(reading, 0)
            await asyncio.sleep(0)

    asyncio.run(run())
    assert all(connection.is_reading() for connection in connections)


def test_while_too_much_waits_to_be_parsed_only_new_connections_are_read() -> None:
    connections = [Connection() for _ in range(3)]
    new = Connection(has_received=False)

    async def run() -> list[int]:
        reading = Reading([*connections, new])
        reading.wait(MAX_WAITING_BYTES)
        reading.note()
        counts = [sum(connection.is_reading() for connection in connections)]
        reading.wait(1)
        reading.note()
        for _ in range(3):
            counts.append(sum(connection.is_reading() for connection in connections))
            assert new.is_reading()
            await asyncio.sleep(0)
        reading.wait(MAX_WAITING_BYTES)  # twice as much
        reading.note()
        assert not new.is_reading()
        reading.wait(-MAX_WAITING_BYTES - 1)
        for _ in range(2):
            await asyncio.sleep(0)
        counts.append(sum(connection.is_reading() for connection in connections))
        return counts

    assert asyncio.run(run()) == [3, 0, 0, 0, 3]
