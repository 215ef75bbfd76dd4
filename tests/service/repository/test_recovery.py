"""When a worker tries again after a device failure, and when it ends."""

import asyncio
import os

import pytest

from service.repository import recovery as recovery_module
from service.repository.recovery import EXIT_CODE, Recovery


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(recovery_module, "GRACE_SECONDS", 0)
    return codes


def test_the_first_failure_is_tried_again_and_a_second_one_soon_after_ends_the_process(
    exits: list[int],
) -> None:
    async def fail_twice() -> None:
        recovery = Recovery(30)
        assert recovery.may_try_again()
        assert not recovery.may_try_again()
        await asyncio.sleep(0.01)

    asyncio.run(fail_twice())
    assert exits == [EXIT_CODE]


def test_a_second_failure_much_later_is_tried_again(
    exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = Recovery(30)
    times = iter((100.0, 161.0))
    monkeypatch.setattr(recovery_module, "monotonic", lambda: next(times))
    assert recovery.may_try_again()
    assert recovery.may_try_again()
    assert exits == []


def test_a_run_is_overdue_after_one_request_timeout_and_hung_after_six(exits: list[int]) -> None:
    async def check() -> None:
        recovery = Recovery(2)
        assert not recovery.is_overdue(2)
        assert recovery.is_overdue(2.1)
        recovery.check_hung_run("model", 12)
        await asyncio.sleep(0.01)
        assert exits == []
        recovery.check_hung_run("model", 12.1)
        await asyncio.sleep(0.01)

    asyncio.run(check())
    assert exits == [EXIT_CODE]
