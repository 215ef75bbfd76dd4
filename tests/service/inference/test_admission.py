"""Room by images and by bytes, and the wait that is predicted."""

import asyncio
from math import ceil

import pytest

from service.errors import Overloaded, PayloadTooLarge
from service.inference.admission import CROWD, Admission
from service.settings import Settings

PATIENT = 1e9


def make_admission(**settings: int) -> Admission:
    return Admission(Settings.model_validate(settings))


def test_a_full_house_refuses_until_somebody_leaves() -> None:
    house = make_admission(max_queue_size=2)
    first, _ = house.admit(0, PATIENT), house.admit(0, PATIENT)
    with pytest.raises(Overloaded, match="images"):
        house.admit(0, PATIENT)
    first.release()
    house.admit(0, PATIENT)


def test_what_not_even_an_idle_server_takes_is_too_large_not_too_much() -> None:
    house = make_admission(max_queue_size=4, max_inflight_bytes=4000)
    with pytest.raises(PayloadTooLarge, match="bytes"):
        house.admit(house.max_body_bytes + 1, PATIENT)
    with house.admit(0, PATIENT) as slot, pytest.raises(PayloadTooLarge, match="images"):
        slot.add_images(4)
    assert (house.images, house.bytes) == (0, 0)


def test_bytes_run_out_before_images_do() -> None:
    house = make_admission(max_inflight_bytes=4000)
    slot = house.admit(house.max_body_bytes, PATIENT)
    with pytest.raises(Overloaded, match="bytes"):
        house.admit(1, PATIENT)
    slot.release()
    assert (house.images, house.bytes) == (0, 0)


def test_the_default_budget_holds_the_largest_request_and_the_largest_picture_together() -> None:
    settings = Settings.model_validate({})
    house = Admission(settings)
    with house.admit(settings.max_request_bytes, PATIENT):
        asyncio.run(house.reserve_pixels(4 * settings.max_image_pixels))
    assert house.bytes == 4 * settings.max_image_pixels


@pytest.mark.parametrize(
    ("images", "order"),
    [(CROWD - 1, "a1 a2 b1 b2"), (CROWD, "a1 b1 a2 b2")],
    ids=["alone", "in a crowd"],
)
def test_in_a_crowd_a_stage_is_run_for_all_in_a_row(images: int, order: str) -> None:
    house = make_admission()
    house.admit(0, PATIENT).add_images(images - 1)
    ran: list[str] = []

    async def request(name: str) -> None:
        ran.append(f"{name}1")
        await house.catch_up()
        ran.append(f"{name}2")

    async def serve() -> None:
        await asyncio.gather(request("a"), request("b"))

    asyncio.run(serve())
    assert " ".join(ran) == order


def test_whoever_could_not_be_answered_in_time_is_refused_with_the_time_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("service.inference.admission.perf_counter", lambda: now)
    house = make_admission()
    for _ in range(20):  # an answer a second
        with house.admit(0, PATIENT) as slot:
            now += 100  # a slow sender is no measure of the pace
            slot.arrive()
            now += 1
            slot.answered = True
    waiting = [house.admit(0, PATIENT) for _ in range(7)]
    assert house.predict_wait() == 0
    for slot in waiting:
        slot.arrive()
    assert house.predict_wait() == pytest.approx(7, rel=0.01)
    with pytest.raises(Overloaded) as refusal:
        house.admit(0, 5)
    assert refusal.value.headers == {"retry-after": str(ceil(house.predict_wait()))}
    house.admit(0, 8)


def test_who_gives_up_waiting_for_pixels_lets_the_next_one_through() -> None:
    house = make_admission(max_inflight_bytes=4000, max_image_pixels=1)

    async def test() -> None:
        room = house.max_bytes - house.max_body_bytes
        house.admit(house.max_body_bytes - 2, PATIENT)
        await house.reserve_pixels(room)
        large, small = (asyncio.create_task(house.reserve_pixels(size)) for size in (room, 2))
        await asyncio.sleep(0)
        large.cancel()
        await small

    asyncio.run(test())


def test_pixels_wait_for_room_first_come_first_served() -> None:
    house = make_admission(max_inflight_bytes=4000, max_image_pixels=1)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await house.reserve_pixels(size)
        order.append(name)

    async def test() -> None:
        room = house.max_bytes - house.max_body_bytes
        house.admit(house.max_body_bytes, PATIENT)
        await take("first", room)
        waiting = [asyncio.create_task(take(name, 1)) for name in ("second", "third", "fourth")]
        await asyncio.sleep(0)
        assert order == ["first"]
        waiting[0].cancel()
        await asyncio.sleep(0)
        house.free_pixels(room)
        await asyncio.gather(*waiting[1:])

    asyncio.run(test())
    assert order == ["first", "third", "fourth"]
