"""How long each image was in which stage."""

import pytest

from service.telemetry.timings import MAX_SPANS, Timings


def test_a_request_of_many_images_has_a_limited_number_of_spans() -> None:
    timings = Timings()
    for number in range(MAX_SPANS + 10):
        timings.note("decode", (number, number + 1 + number / 1000))
    assert len(timings.spans) == MAX_SPANS
    longest = 1 + (MAX_SPANS + 9) / 1000
    assert timings.seconds["decode"] == pytest.approx(longest)
