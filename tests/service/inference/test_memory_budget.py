"""Pictures get room for their pixels in order, and bodies always find some."""

import asyncio

import pytest

from service.inference.memory_budget import KEPT_FOR_BODIES, MIDDLE_SHARE, SMALL_SHARE, MemoryBudget
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
        memory.free_pixels(room, room)
        await asyncio.gather(*waiting[1:])

    asyncio.run(test())
    assert order == ["first", "third", "fourth"]


def test_equal_pictures_pass_one_until_it_has_waited_long_enough(
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
        largest = memory.max_pixel_bytes
        large = largest // MIDDLE_SHARE + 1
        await take("first largest", largest)
        second = asyncio.create_task(take("second largest", largest))
        await asyncio.sleep(0)
        await take("large", large)
        now = 6.0  # more than half of the deadline
        late = asyncio.create_task(take("late large", large))
        await asyncio.sleep(0)
        assert order == ["first largest", "large"]
        memory.free_pixels(large, large)
        memory.free_pixels(largest, largest)
        await asyncio.gather(second, late)

    asyncio.run(test())
    assert order == ["first largest", "large", "second largest", "late large"]


@pytest.mark.parametrize("divisor", [SMALL_SHARE, MIDDLE_SHARE], ids=["small", "middle"])
def test_room_is_kept_for_smaller_pictures_whatever_waits(
    monkeypatch: pytest.MonkeyPatch, divisor: int
) -> None:
    now = 0.0
    monkeypatch.setattr("service.inference.memory_budget.perf_counter", lambda: now)
    memory = make_memory(max_inflight_bytes=4000, max_image_pixels=500, request_timeout_ms=10_000)
    share = memory.max_pixel_bytes // divisor

    async def test() -> None:
        nonlocal now
        large = memory.max_pixel_bytes // 2
        while memory.try_reserve_pixels(large):
            pass
        assert memory.bytes > 0
        largest = asyncio.create_task(memory.reserve_pixels(memory.max_pixel_bytes))
        await asyncio.sleep(0)
        now = 6.0  # more than half of the deadline
        assert not memory.try_reserve_pixels(large // 2)
        assert memory.try_reserve_pixels(share)
        late = asyncio.create_task(memory.reserve_pixels(share))
        await asyncio.sleep(0)
        assert not late.done(), "the largest would never get its room"
        memory.free_pixels(share, share)
        await late
        while not largest.done():
            memory.free_pixels(large, large)
            await asyncio.sleep(0)

    asyncio.run(test())


def test_the_largest_picture_finds_room_beside_all_bodies_and_small_pictures() -> None:
    memory = make_memory(max_inflight_bytes=4000, max_image_pixels=500)
    assert memory.try_hold_body(memory.max_body_bytes)
    assert memory.try_reserve_pixels(1)
    memory.free_pixels(1, 1)
    assert memory.try_reserve_pixels(memory.max_pixel_bytes)
    assert not memory.try_reserve_pixels(1)


def test_pixels_leave_room_for_bodies() -> None:
    memory = make_memory(max_inflight_bytes=4000, max_image_pixels=1)
    assert memory.try_reserve_pixels(memory.max_pixel_bytes)
    kept = memory.max_body_bytes // KEPT_FOR_BODIES
    while memory.try_reserve_pixels(1):
        pass
    assert memory.try_hold_body(kept)
