"""Admission control limits images and bytes, and predicts the wait."""

import asyncio
from functools import partial
from math import ceil

import pytest

from service.errors import Overloaded, PayloadTooLarge
from service.inference.admission import YIELD_FROM_IMAGES, Admission, Permit
from service.inference.arriving_bodies import SLOW_SECONDS, STEP_BYTES
from service.settings import Settings

PATIENT = 1e9


def make_admission(**settings: int) -> Admission:
    return Admission(Settings.model_validate(settings))


def receive(admission: Admission, body_bytes: int = 0, seconds_left: float = PATIENT) -> Permit:
    """Admit a request whose body is there at once."""
    permit = admission.admit(body_bytes, seconds_left)
    permit.add_body(body_bytes)
    permit.mark_body_received()
    return permit


def test_a_full_queue_rejects_until_a_request_ends() -> None:
    admission = make_admission(max_queue_size=2)
    first, _ = receive(admission), receive(admission)
    with pytest.raises(Overloaded, match="images"):
        admission.admit(0, PATIENT)
    first.release()
    admission.admit(0, PATIENT)


def test_batches_leave_places_for_single_images_but_the_first_may_take_all() -> None:
    admission = make_admission(max_queue_size=8)
    first, second = receive(admission), receive(admission)
    first.add_images(3)
    with pytest.raises(Overloaded, match="images"):
        second.add_images(2)
    second.add_images(1)
    singles = [receive(admission) for _ in range(2)]
    with pytest.raises(Overloaded, match="images"):
        receive(admission)
    for permit in (first, second, *singles):
        permit.release()
    receive(admission).add_images(7)


def test_an_image_takes_no_place_in_the_queue_before_its_body_is_there() -> None:
    admission = make_admission(max_queue_size=2)
    early, late = (admission.admit(1, PATIENT) for _ in range(2))
    receive(admission)
    early.mark_body_received()
    with pytest.raises(Overloaded, match="images"):
        late.mark_body_received()
    late.release()
    assert (admission.images, len(admission.arriving)) == (2, 0)


def test_of_too_many_bodies_that_do_not_come_the_oldest_is_dropped() -> None:
    admission = make_admission(max_queue_size=2)
    dropped: list[str] = []
    permits = {
        name: admission.admit(9_999_999, PATIENT, partial(dropped.append, name)) for name in "ab"
    }
    permits["a"].add_body(STEP_BYTES)  # so the other one has waited longer
    permits["b"].add_body(STEP_BYTES - 1)
    admission.admit(1, PATIENT)
    assert dropped == ["b"]
    assert permits["b"].is_dropped
    assert admission.memory.bytes == STEP_BYTES
    permits["b"].release()
    assert admission.memory.bytes == STEP_BYTES


def test_slow_bodies_are_dropped_when_others_need_their_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("service.inference.arriving_bodies.perf_counter", lambda: now)
    admission = make_admission(max_inflight_bytes=4 * STEP_BYTES, max_image_pixels=1)
    dropped: list[str] = []
    permits = {name: admission.admit(1, PATIENT, partial(dropped.append, name)) for name in "abc"}
    for name in "ab":
        permits[name].add_body(STEP_BYTES)
    now = SLOW_SECONDS + 0.1
    permits["a"].add_body(STEP_BYTES)  # a fast one
    with pytest.raises(Overloaded, match="bytes"):
        permits["c"].add_body(3 * STEP_BYTES)
    assert dropped == [], "it would not be enough"
    permits["c"].add_body(STEP_BYTES + 100)
    assert dropped == ["b"]
    assert admission.memory.bytes == 3 * STEP_BYTES + 100
    for permit in permits.values():
        permit.release()
    assert (admission.memory.bytes, admission.memory.body_bytes) == (0, 0)


def test_a_request_that_never_fits_is_too_large_rather_than_overloaded() -> None:
    admission = make_admission(max_queue_size=4, max_inflight_bytes=4000)
    with pytest.raises(PayloadTooLarge, match="bytes"):
        admission.admit(admission.memory.max_body_bytes + 1, PATIENT)
    with receive(admission) as permit, pytest.raises(PayloadTooLarge, match="images"):
        permit.add_images(4)
    assert (admission.images, admission.memory.bytes) == (0, 0)


def test_bytes_are_limited_separately_from_images() -> None:
    admission = make_admission(max_inflight_bytes=4000)
    permit = receive(admission, admission.memory.max_body_bytes)
    late = admission.admit(1, PATIENT)
    with pytest.raises(Overloaded, match="bytes"):
        late.add_body(1)
    permit.release()
    late.release()
    assert (admission.images, admission.memory.bytes) == (0, 0)


def test_the_default_limits_hold_the_largest_request_and_the_largest_image_together() -> None:
    settings = Settings.model_validate({})
    admission = Admission(settings)
    with receive(admission, settings.max_request_bytes):
        asyncio.run(admission.memory.reserve_pixels(4 * settings.max_image_pixels))
    assert admission.memory.bytes == 4 * settings.max_image_pixels


@pytest.mark.parametrize(
    ("images", "order"),
    [(YIELD_FROM_IMAGES - 1, "a1 a2 b1 b2"), (YIELD_FROM_IMAGES, "a1 b1 a2 b2")],
    ids=["idle", "under load"],
)
def test_under_load_one_stage_runs_for_all_requests_in_a_row(images: int, order: str) -> None:
    admission = make_admission()
    receive(admission).add_images(images - 1)
    steps: list[str] = []

    async def request(name: str) -> None:
        steps.append(f"{name}1")
        await admission.yield_to_backlog()
        steps.append(f"{name}2")

    async def serve() -> None:
        await asyncio.gather(request("a"), request("b"))

    asyncio.run(serve())
    assert " ".join(steps) == order


def test_a_request_that_would_miss_its_deadline_is_rejected_with_the_predicted_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("service.inference.admission.perf_counter", lambda: now)
    admission = make_admission()
    for _ in range(20):  # one answer per second
        with admission.admit(0, PATIENT) as permit:
            now += 100  # a slow client does not change the pace
            permit.mark_body_received()
            now += 1
            permit.answered = True
    waiting = [admission.admit(0, PATIENT) for _ in range(7)]
    assert admission.predict_wait() == 0
    for permit in waiting:
        permit.mark_body_received()
    assert admission.predict_wait() == pytest.approx(7, rel=0.01)
    with pytest.raises(Overloaded) as overloaded:
        admission.admit(0, 5)
    assert overloaded.value.headers == {"retry-after": str(ceil(admission.predict_wait()))}
    admission.admit(0, 8)


def test_of_a_batch_only_the_images_that_run_at_once_delay_others() -> None:
    admission = make_admission()
    with receive(admission) as permit:
        permit.add_images(1)
        permit.answered = True
    batch = receive(admission)
    batch.add_images(63)
    alone = admission.predict_wait() / 64
    batch.limit_active_images(16)
    assert admission.predict_wait() == pytest.approx(16 * alone)
    batch.release()
    assert admission.active_images == 0


def test_an_answer_without_a_permit_is_rejected_while_too_many_are_unread() -> None:
    admission = make_admission(max_inflight_bytes=400)
    admission.check_response(1000)  # alone, it finds room
    admission.memory.hold_response(60)
    admission.check_response(40)
    with pytest.raises(Overloaded, match="can't hold 41 more bytes"):
        admission.check_response(41)


def test_slow_images_do_not_make_quick_answers_count_as_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr("service.inference.admission.perf_counter", lambda: now)
    admission = make_admission()
    slow = receive(admission)
    slow.add_images(63)
    for _ in range(20):  # now and then a client that gets its answer at once
        now += 1
        with receive(admission, seconds_left=10) as permit:
            now += 0.01
            permit.answered = True
    assert admission.predict_wait() == pytest.approx(64 * 0.01)


def test_an_answer_that_never_fits_is_rejected_with_what_to_do() -> None:
    admission = make_admission(max_inflight_bytes=4000)
    with receive(admission, 10) as permit:
        permit.add_answer(100)
        assert admission.memory.bytes == 110
        with pytest.raises(PayloadTooLarge, match="fewer images, labels or maps"):
            permit.add_answer(admission.memory.max_body_bytes)
    assert admission.memory.bytes == 0
