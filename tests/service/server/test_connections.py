"""The connections of a worker: the limit, what they hold, and answers that are not taken."""

import asyncio
from typing import Any

import pytest

from service.server import connections as module
from service.server.connections import (
    MAX_HELD_BYTES,
    RESERVED,
    SMALL_BYTES,
    Connections,
)
from service.settings import Settings

PATIENCE = 10


class Transport:
    """What a transport says of itself, and how it was ended."""

    def __init__(self, unsent: int = 0) -> None:
        self.unsent = unsent
        self.taken = 0
        self.end = ""

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def close(self) -> None:
        self.end = "closed"

    def abort(self) -> None:
        self.end = "aborted"


class Connection:
    """A connection that has waited for its client since a time."""

    def __init__(self, since: float | None = None, unsent: int = 0) -> None:
        self.transport: Any = Transport(unsent)
        self.since = since
        self.held_bytes = 0
        self.has_received = True
        self.unfinished = True
        self.questions = 0
        self.is_discarded = False

    def waits_since(self) -> float | None:
        return self.since

    def is_unfinished(self) -> bool:
        self.questions += 1
        return self.unfinished

    def wants_reading(self) -> bool:
        return True

    def discard(self) -> None:
        self.is_discarded = True


@pytest.fixture
def few() -> Connections:
    """Room for eight connections, and for eight more with probes."""
    return make_connections(max_connections=8 + RESERVED)


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the transports say how many bytes their clients have taken."""
    monkeypatch.setattr(module, "count_taken_bytes", lambda transport: transport.taken)


def make_connections(is_short: bool = False, **settings: Any) -> Connections:
    """No connections, with these settings."""
    settings = {"request_timeout_ms": 1000 * PATIENCE} | settings
    return Connections(Settings.model_validate(settings), lambda: is_short)


def list_ends(connections: list[Connection]) -> list[str]:
    """How each connection was ended."""
    return [connection.transport.end for connection in connections]


def test_a_full_server_closes_the_connection_that_has_waited_longest(few: Connections) -> None:
    opened = [Connection(since) for since in (3, 1, None, 2, 5, None, 6, 7)]
    assert [few.add(connection) for connection in opened] == [False] * 8
    assert list_ends(opened) == [""] * 8
    assert not few.add(Connection(8))
    assert list_ends(opened) == ["", "closed", *[""] * 6]
    assert not few.add(Connection(9))
    assert list_ends(opened) == ["", "closed", "", "closed", *[""] * 4]


def test_of_those_that_came_at_once_the_first_is_closed(few: Connections) -> None:
    opened = [Connection(1.0) for _ in range(8)]
    for connection in (*reversed(opened), Connection(1.0), Connection(1.0)):
        few.add(connection)
    assert list_ends(opened) == [*[""] * 6, "closed", "closed"]


def test_one_that_does_not_read_is_aborted_because_it_would_never_close(few: Connections) -> None:
    unread = Connection(0, unsent=1)
    for connection in [unread, *(Connection(1) for _ in range(8))]:
        few.add(connection)
    assert unread.transport.end == "aborted"


def test_while_all_are_busy_a_new_connection_is_for_probes(few: Connections) -> None:
    busy = [Connection() for _ in range(8)]
    assert [few.add(connection) for connection in busy] == [False] * 8
    reserved = [Connection() for _ in range(RESERVED + 1)]
    assert [few.add(connection) for connection in reserved] == [True] * len(reserved)
    assert list_ends(busy) == [""] * 8
    assert list_ends(reserved) == ["closed"] + [""] * RESERVED
    for connection in [busy[0], *reserved]:
        few.remove(connection)
    assert not few.add(Connection())


@pytest.mark.parametrize(("descriptors", "limit"), [(70, 16), (1024, 960), (20_000, 19_936)])
def test_the_limit_follows_the_descriptors_unless_it_is_set(
    descriptors: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "count_descriptors", lambda: descriptors)
    assert make_connections()._limit == limit
    assert make_connections(max_connections=100)._limit == 100


def test_held_bytes_have_a_limit_for_all_connections_together(few: Connections) -> None:
    opened = [Connection() for _ in range(5)]
    for connection in opened:
        few.add(connection)
        few.hold(connection, MAX_HELD_BYTES // 4)
    assert list_ends(opened) == ["aborted", "", "", "", ""]
    opened[1].unfinished = False  # freed before anything is aborted
    few.hold(opened[4], MAX_HELD_BYTES // 4)
    assert list_ends(opened) == ["aborted", "", "", "", ""]
    few.hold(opened[4], 1)
    assert list_ends(opened) == ["aborted", "", "aborted", "", ""]


def test_a_usual_request_waits_longer_than_those_that_hold_much(few: Connections) -> None:
    usual, *large = opened = [Connection() for _ in range(5)]
    for connection in opened:
        few.add(connection)
    few.hold(usual, SMALL_BYTES)
    for connection in large:
        few.hold(connection, MAX_HELD_BYTES // 3)
    assert list_ends(opened) == ["", "aborted", "aborted", "", ""]
    few.hold(large[3], -MAX_HELD_BYTES // 3 + SMALL_BYTES)  # it holds little again
    few.hold(large[2], MAX_HELD_BYTES)
    assert list_ends(opened) == ["", "aborted", "aborted", "aborted", ""]


def sweep(
    connections: Connections, opened: list[Connection], rates: list[int], start: int, end: int
) -> None:
    """Let the clients take so many bytes per second, from one half second to another."""
    for half in range(start, end):
        connections.sweep(half / 2)
        for connection, rate in zip(opened, rates, strict=True):
            connection.transport.taken += rate // 2


def test_an_answer_must_be_taken_steadily_but_may_be_taken_slowly() -> None:
    connections = make_connections()
    opened = [Connection(unsent=1_000_000) for _ in range(3)]
    for connection in opened:
        connections.add(connection)
    sweep(connections, opened, [0, 1000, 2000], 0, 2 * PATIENCE)
    assert list_ends(opened) == ["", "", ""]
    sweep(connections, opened, [0, 1000, 2000], 2 * PATIENCE, 10 * PATIENCE)
    assert list_ends(opened) == ["aborted", "aborted", ""]


def test_while_room_is_short_the_slowest_readers_are_aborted_soon() -> None:
    connections = make_connections(is_short=True)
    opened = [Connection(unsent=1_000_000) for _ in range(3)]
    for connection in opened:
        connections.add(connection)
    sweep(connections, opened, [300_000, 10_000, 20_000], 0, 3)
    assert list_ends(opened) == ["", "aborted", ""]
    sweep(connections, opened, [300_000, 10_000, 20_000], 3, 5)
    assert list_ends(opened) == ["", "aborted", "aborted"]


def test_a_socket_says_how_many_bytes_its_client_has_received() -> None:
    async def measure() -> tuple[int | None, int | None]:
        accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        server = await asyncio.start_server(
            lambda _, writer: accepted.put_nowait(writer), "127.0.0.1", 0
        )
        async with server:
            _, client = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer = await accepted.get()
            before = REAL_COUNT(writer.transport)
            writer.write(b"abc")
            async with asyncio.timeout(10):
                while (after := REAL_COUNT(writer.transport)) == before and before is not None:
                    await asyncio.sleep(0.01)
            writer.close()
            client.close()
            return before, after

    before, after = asyncio.run(measure())
    if before is not None and after is not None:  # both are None elsewhere than on Linux
        assert after - before == 3


REAL_COUNT = module.count_taken_bytes


def test_what_an_aborted_connection_holds_is_forgotten_at_once() -> None:
    first, second = Connection(), Connection()
    many = make_connections()
    for connection in (first, second):
        many.add(connection)
        many.hold(connection, MAX_HELD_BYTES // 2 + 1)
    assert list_ends([first, second]) == ["aborted", ""]
    assert (first.is_discarded, second.is_discarded) == (True, False)


def test_a_full_house_is_not_asked_anew_for_every_byte() -> None:
    holding = [Connection() for _ in range(300)]
    many = make_connections()
    for connection in holding:
        many.hold(connection, MAX_HELD_BYTES // 256)
    assert sum(connection.questions for connection in holding) < 10 * len(holding)
