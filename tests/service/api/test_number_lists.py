"""Long lists of numbers are read as the JSON says, piece by piece."""

import json
from typing import Any

import numpy as np
import pytest

from service.api.v2.number_lists import MAX_VALUES, read_integers
from service.errors import BadRequest, PayloadTooLarge


def read(text: str) -> list[int]:
    found: list[int] = read_integers(memoryview(text.encode()), "x").tolist()
    return found


@pytest.mark.parametrize(
    "data",
    [
        [],
        [7],
        list(range(-50_000, 50_000)),
        [[1, 2, 3]] * 30_000,
        [[[[1], [2]]] * 100] * 100,
        [2**63 - 1, -(2**63)] * 5000,
    ],
)
@pytest.mark.parametrize("indent", [None, 3])
def test_the_numbers_are_those_of_the_list(data: list[Any], indent: int | None) -> None:
    assert read(json.dumps(data, indent=indent)) == np.array(data, np.int64).ravel().tolist()


@pytest.mark.parametrize(
    "text",
    [
        "[1,2",
        "[1],[2]",
        "[1]]",
        "[[1]",
        "[1 2]",
        "[1,,2]",
        "[1,2,]",
        "[1,[2]]",
        "[1,2.5]",
        "[true]",
        "[null]",
        "[01]",
        "[1" + " " * 1_000_000 + ",2]",
        "[" * 1_000_000,
        "[" + "[]," * 100_000 + "1]",
        "[" * 100 + "1," * 100_000,
        "[" + "9" * 5000 + "]",
    ],
)
def test_another_list_is_rejected(text: str) -> None:
    long = "[" + "1," * 70_000
    for whole in (text, long + text, long + text[1:], text[:-1] + "," + long[1:] + "1]"):
        if whole not in (long + "[" * 1_000_000,):
            with pytest.raises(BadRequest, match="must be integers, flat or nested"):
                read(whole)


def test_a_number_of_more_than_64_bits_is_told() -> None:
    with pytest.raises(OverflowError):
        read(f"[{2**63}]")


def test_too_many_values_are_rejected_before_all_are_read() -> None:
    with pytest.raises(PayloadTooLarge, match=f"more than {MAX_VALUES} values"):
        read("[" + "1," * (2 * MAX_VALUES))


def test_too_many_lists_are_rejected_before_all_are_read() -> None:
    with pytest.raises(PayloadTooLarge, match="values"):
        read("[" + "[ ]," * (4 * MAX_VALUES) + "1]")
