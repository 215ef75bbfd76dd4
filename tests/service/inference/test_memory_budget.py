"""Pictures get room for their pixels in order, and bodies always find some."""

import asyncio

import pytest

from service.inference.memory_budget import KEPT_FOR_BODIES, MemoryBudget
from service.settings import Settings


def make_memory(**settings: int) -> MemoryBudget:
    return MemoryBudget(Settings.model_validate(settings))


def test_a_cancelled_wait_for_pixels_lets_the_next_request_through() -> None:
    memory = make_memory(max_inflight_bytes=4000, max_image_pixels=1)

    async def test() -> None:
        room = memory.max_bytes - memory.max_body_bytes
        assert memory.try_hold_body(memory.max_body_bytes - 2)
        await memory.reserve_pixels(room)
        large, small = (asyncio.create_task(memory.reserve_pixels(size)) for size in (room, 2))
        await asyncio.sleep(0)
        large.cancel()
        await small

    asyncio.run(test())


def test_requests_get_room_for_pixels_in_the_order_they_asked() -> None:
    memory = make_memory(max_inflight_bytes=4000, max_image_pixels=1)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await memory.reserve_pixels(size)
        order.append(name)

    async def test() -> None:
        room = memory.max_bytes - memory.max_body_bytes
        assert memory.try_hold_body(memory.max_body_bytes)
        await take("first", room)
        waiting = [asyncio.create_task(take(name, 1)) for name in ("second", "third", "fourth")]
        await asyncio.sleep(0)
        assert order == ["first"]
        waiting[0].cancel()
        await asyncio.sleep(0)
        memory.free_pixels(room)
        await asyncio.gather(*waiting[1:])

    asyncio.run(test())
    assert order == ["first", "third", "fourth"]


def test_small_pictures_pass_a_large_one_until_it_has_waited_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("service.inference.memory_budget.perf_counter", lambda: now)
    memory = make_memory(max_inflight_bytes=4000, max_image_pixels=500, request_timeout_ms=10_000)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await memory.reserve_pixels(size)
        order.append(name)

    async def test() -> None:
        nonlocal now
        large = memory.max_pixel_bytes
        await take("first large", large)
        second = asyncio.create_task(take("second large", large))
        await asyncio.sleep(0)
        await take("small", 5)
        now = 6.0  # more than half of the deadline
        late = asyncio.create_task(take("late small", 5))
        await asyncio.sleep(0)
        assert order == ["first large", "small"]
        memory.free_pixels(5)
        memory.free_pixels(large)
        await asyncio.gather(second, late)

    asyncio.run(test())
    assert order == ["first large", "small", "second large", "late small"]


def test_pixels_leave_room_for_bodies() -> None:
    memory = make_memory(max_inflight_bytes=4000, max_image_pixels=1)
    assert memory.try_reserve_pixels(memory.max_pixel_bytes)
    kept = memory.max_body_bytes // KEPT_FOR_BODIES
    while memory.try_reserve_pixels(1):
        pass
    assert memory.try_hold_body(kept)
