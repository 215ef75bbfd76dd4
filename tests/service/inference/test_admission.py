"""Room by images and by bytes, and the wait that is predicted."""

import asyncio
from math import ceil

import pytest

from service.errors import Overloaded, PayloadTooLarge
from service.inference.admission import YIELD_FROM_IMAGES, Admission
from service.settings import Settings

PATIENT = 1e9


def make_admission(**settings: int) -> Admission:
    return Admission(Settings.model_validate(settings))


def test_a_full_house_refuses_until_somebody_leaves() -> None:
    admission = make_admission(max_queue_size=2)
    first, _ = admission.admit(0, PATIENT), admission.admit(0, PATIENT)
    with pytest.raises(Overloaded, match="images"):
        admission.admit(0, PATIENT)
    first.release()
    admission.admit(0, PATIENT)


def test_what_not_even_an_idle_server_takes_is_too_large_not_too_much() -> None:
    admission = make_admission(max_queue_size=4, max_inflight_bytes=4000)
    with pytest.raises(PayloadTooLarge, match="bytes"):
        admission.admit(admission.max_body_bytes + 1, PATIENT)
    with admission.admit(0, PATIENT) as permit, pytest.raises(PayloadTooLarge, match="images"):
        permit.add_images(4)
    assert (admission.images, admission.bytes) == (0, 0)


def test_bytes_run_out_before_images_do() -> None:
    admission = make_admission(max_inflight_bytes=4000)
    permit = admission.admit(admission.max_body_bytes, PATIENT)
    with pytest.raises(Overloaded, match="bytes"):
        admission.admit(1, PATIENT)
    permit.release()
    assert (admission.images, admission.bytes) == (0, 0)


def test_the_default_budget_holds_the_largest_request_and_the_largest_picture_together() -> None:
    settings = Settings.model_validate({})
    admission = Admission(settings)
    with admission.admit(settings.max_request_bytes, PATIENT):
        asyncio.run(admission.reserve_pixels(4 * settings.max_image_pixels))
    assert admission.bytes == 4 * settings.max_image_pixels


@pytest.mark.parametrize(
    ("images", "order"),
    [(YIELD_FROM_IMAGES - 1, "a1 a2 b1 b2"), (YIELD_FROM_IMAGES, "a1 b1 a2 b2")],
    ids=["alone", "in a crowd"],
)
def test_in_a_crowd_a_stage_is_run_for_all_in_a_row(images: int, order: str) -> None:
    admission = make_admission()
    admission.admit(0, PATIENT).add_images(images - 1)
    ran: list[str] = []

    async def request(name: str) -> None:
        ran.append(f"{name}1")
        await admission.yield_to_backlog()
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
    admission = make_admission()
    for _ in range(20):  # an answer a second
        with admission.admit(0, PATIENT) as permit:
            now += 100  # a slow sender is no measure of the pace
            permit.mark_body_received()
            now += 1
            permit.answered = True
    waiting = [admission.admit(0, PATIENT) for _ in range(7)]
    assert admission.predict_wait() == 0
    for permit in waiting:
        permit.mark_body_received()
    assert admission.predict_wait() == pytest.approx(7, rel=0.01)
    with pytest.raises(Overloaded) as refusal:
        admission.admit(0, 5)
    assert refusal.value.headers == {"retry-after": str(ceil(admission.predict_wait()))}
    admission.admit(0, 8)


def test_who_gives_up_waiting_for_pixels_lets_the_next_one_through() -> None:
    admission = make_admission(max_inflight_bytes=4000, max_image_pixels=1)

    async def test() -> None:
        room = admission.max_bytes - admission.max_body_bytes
        admission.admit(admission.max_body_bytes - 2, PATIENT)
        await admission.reserve_pixels(room)
        large, small = (asyncio.create_task(admission.reserve_pixels(size)) for size in (room, 2))
        await asyncio.sleep(0)
        large.cancel()
        await small

    asyncio.run(test())


def test_pixels_wait_for_room_first_come_first_served() -> None:
    admission = make_admission(max_inflight_bytes=4000, max_image_pixels=1)
    order: list[str] = []

    async def take(name: str, size: int) -> None:
        await admission.reserve_pixels(size)
        order.append(name)

    async def test() -> None:
        room = admission.max_bytes - admission.max_body_bytes
        admission.admit(admission.max_body_bytes, PATIENT)
        await take("first", room)
        waiting = [asyncio.create_task(take(name, 1)) for name in ("second", "third", "fourth")]
        await asyncio.sleep(0)
        assert order == ["first"]
        waiting[0].cancel()
        await asyncio.sleep(0)
        admission.free_pixels(room)
        await asyncio.gather(*waiting[1:])

    asyncio.run(test())
    assert order == ["first", "third", "fourth"]
