"""A worker drains after SIGTERM and stops at once after Ctrl-C."""

import asyncio
import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from service.lifecycle import Lifecycle
from tests.server import wait_until


@pytest.fixture
def received() -> Iterator[list[int]]:
    """The signals that reach the server's own handlers."""
    signals: list[int] = []

    def receive(number: int, _: FrameType | None) -> None:
        signals.append(number)

    before = {number: signal.signal(number, receive) for number in (signal.SIGTERM, signal.SIGINT)}
    yield signals
    for number, handler in before.items():
        signal.signal(number, handler)


def send(lifecycle: Lifecycle, received: list[int], *numbers: int) -> None:
    """Send the signals to this process while `lifecycle` catches them; wait until it is closed."""

    async def body() -> None:
        with lifecycle.catch_signals():
            for number in numbers:
                os.kill(os.getpid(), number)
                await asyncio.sleep(0.01)
                assert lifecycle.draining
            while not received:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(body(), 60))


def test_sigterm_reaches_the_server_once_after_the_drain_time(received: list[int]) -> None:
    lifecycle = Lifecycle(drain_seconds=0.2)
    send(lifecycle, received, signal.SIGTERM, signal.SIGTERM)
    assert lifecycle.closed
    assert received == [signal.SIGTERM]


def test_ctrl_c_reaches_the_server_at_once(received: list[int]) -> None:
    send(Lifecycle(drain_seconds=3600), received, signal.SIGINT)
    assert received == [signal.SIGINT]


def test_after_ctrl_c_sigterm_does_not_wait(received: list[int]) -> None:
    lifecycle = Lifecycle(drain_seconds=3600)

    async def body() -> None:
        with lifecycle.catch_signals():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGTERM)
            while len(received) < 2:
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(body(), 60))
    assert sorted(received) == [signal.SIGINT, signal.SIGTERM]
    assert lifecycle.closed


def test_the_handlers_of_the_server_are_restored(received: list[int]) -> None:
    async def body() -> None:
        with Lifecycle(0).catch_signals():
            pass

    asyncio.run(body())
    os.kill(os.getpid(), signal.SIGTERM)
    wait_until(lambda: received == [signal.SIGTERM])
