"""The wire format: written data is read back, and malformed data is rejected."""

import json
import struct
from typing import Any

import numpy as np
import pytest

from service.api.v2.outputs import OutputTensor, write_answer
from service.api.v2.schemas import InputTensor
from service.api.v2.tensors import BinaryData, read_array, read_call, read_elements
from service.errors import BadRequest


def make_tensor(datatype: str, shape: list[int], data: object) -> InputTensor:
    """Return an input and its data."""
    values = BinaryData(data, 0, len(data)) if isinstance(data, bytes) else data
    return InputTensor(name="x", datatype=datatype, shape=shape, data=values)


def make_body(*inputs: dict[str, Any]) -> bytes:
    return json.dumps({"inputs": inputs}).encode()


@pytest.mark.parametrize("datatype", ["UINT8", "INT64"])
@pytest.mark.parametrize("shape", [[0], [6], [2, 3], [1, 2, 3], [4, 0]])
def test_numbers_are_equal_in_json_and_binary(datatype: str, shape: list[int]) -> None:
    dtype = {"UINT8": np.uint8, "INT64": np.int64}[datatype]
    expected = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    for data in (expected.tobytes(), expected.ravel().tolist(), expected.tolist()):
        found = read_array(make_tensor(datatype, shape, data))
        np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2], "3 values, got 2"),
        ([1, 2, 3, 4], "3 values, got 4"),
        ([1, 2, 256], "range of UINT8, 0 to 255"),
        ([-1, 2, 3], "range of UINT8, 0 to 255"),
        ([1, 2, 10**400], "range of UINT8, 0 to 255"),
        ([1, 2.0, 3], "integers"),
        ([1, True, 3], "integers"),
        ([1, "2", 3], "integers"),
        ([1, None, 3], "integers"),
        ([[1], 2, [3]], "integers"),
        ([[1, 2], [[3]]], "integers"),
        (["a" * 1000, 2, 3], "integers"),
        ([{}, 2, 3], "integers"),
        ("123", "must be a list"),
        ({"0": 1}, "must be a list"),
        (7, "must be a list"),
        (b"12", "2 binary bytes"),
        (b"1234", "4 binary bytes"),
        (b"", "0 binary bytes"),
    ],
)
def test_data_that_does_not_match_its_declaration_is_rejected(data: object, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read_array(make_tensor("UINT8", [3], data))


@pytest.mark.parametrize("shape", [[2**31 - 1] * 8, [2**31 - 1], [1, 2**31 - 1]])
def test_a_huge_shape_allocates_no_memory(shape: list[int]) -> None:
    for data in (b"123", [1, 2, 3]):
        with pytest.raises(BadRequest, match=str(2**31 - 1)):
            read_array(make_tensor("INT64", shape, data))
    with pytest.raises(BadRequest, match="element 0"):
        read_elements(make_tensor("BYTES", shape, b"123"), 100)


def test_elements_are_raw_in_binary_and_base64_in_json() -> None:
    expected = [b"\x89PNG", b"", b"\0"]
    block = b"".join(struct.pack("<I", len(element)) + element for element in expected)
    assert read_elements(make_tensor("BYTES", [3], block), 100) == expected
    assert read_elements(make_tensor("BYTES", [2], ["iVBORw==", "AA=="]), 100) == [
        b"\x89PNG",
        b"\0",
    ]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (b"", "element 0"),
        (b"\1\0\0", "element 0"),
        (b"\1\0\0\0", "element 0"),
        (b"\xff\xff\xff\xffab", "element 0"),
        (b"\1\0\0\0a\2\0\0\0b", "element 1"),
        (b"\1\0\0\0a\1\0\0\0bc", "1 bytes after"),
    ],
)
def test_elements_that_do_not_fill_their_block_are_rejected(block: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        read_elements(make_tensor("BYTES", [2], block), 100)


def test_each_input_reads_its_part_of_the_binary_data() -> None:
    sizes = (2, 0, 3)
    inputs = [
        {"name": str(i), "datatype": "UINT8", "shape": [size]}
        | {"parameters": {"binary_data_size": size}}
        for i, size in enumerate(sizes)
    ]
    listed = {"name": "listed", "datatype": "UINT8", "shape": [1], "data": [9]}
    document = make_body(inputs[0], listed, *inputs[1:])
    call = read_call(document + b"abcde", str(len(document)))
    binary = [tensor.data for tensor in call.inputs if isinstance(tensor.data, BinaryData)]
    assert [bytes(data.view) for data in binary] == [b"ab", b"", b"cde"]
    assert call.inputs[1].data == [9]


@pytest.mark.parametrize("length", ["0" * 20 + "9" * 19, "0" * 5000 + "13", "9" * 19, "0" * 20])
def test_a_length_is_compared_whole_with_the_body(length: str) -> None:
    body = make_body()
    with pytest.raises(BadRequest, match=f"a body of {len(body)} bytes"):
        read_call(body, length)
    padded = str(len(body)).zfill(19)
    with pytest.raises(BadRequest, match="inputs"):  # the length is right, and the list is empty
        read_call(body, padded)


@pytest.mark.parametrize(
    ("parameters", "rest"),
    [
        ({"binary_data_size": 3}, b"ab"),
        ({"binary_data_size": 3}, b"abcd"),
        ({"binary_data_size": -1}, b""),
        ({"binary_data_size": "3"}, b"abc"),
        ({"binary_data_size": 2**40}, b"abc"),
        ({"binary_data_size": True}, b"a"),
        ({}, b"abc"),
        (None, b"abc"),
        ([], b"abc"),
    ],
)
def test_invalid_sizes_are_rejected(parameters: object, rest: bytes) -> None:
    tensor = {"name": "x", "datatype": "UINT8", "shape": [3], "parameters": parameters}
    document = make_body(tensor)
    with pytest.raises(BadRequest):
        read_call(document + rest, str(len(document)))


def test_data_given_twice_is_rejected() -> None:
    tensor = {"name": "x", "datatype": "UINT8", "shape": [3], "data": [1, 2, 3]}
    document = make_body(tensor | {"parameters": {"binary_data_size": 3}})
    with pytest.raises(BadRequest, match="either"):
        read_call(document + b"abc", str(len(document)))


def test_a_long_invalid_value_is_shortened_in_the_error() -> None:
    with pytest.raises(BadRequest) as caught:
        read_call(make_body({"name": ["x"] * 10_000, "datatype": "UINT8", "shape": []}), "")
    assert len(str(caught.value)) < 200


def test_an_answer_lists_its_outputs_and_appends_binary_data() -> None:
    logits = np.array([[1.5, -2]], np.float32)
    body, length = write_answer(
        {"model_name": "m"},
        [
            OutputTensor("a", logits, True),
            OutputTensor("b", logits, False),
            OutputTensor("c", [["ä", "bc"]], True),
            OutputTensor("d", [["ä"]], False),
        ],
    )
    assert length is not None
    header = json.loads(body[:length])
    assert header["model_name"] == "m"
    a, b, c, d = header["outputs"]
    assert a == {"name": "a", "datatype": "FP32", "shape": [1, 2]} | {
        "parameters": {"binary_data_size": 8}
    }
    assert b == {"name": "b", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2]}
    assert (c["datatype"], c["shape"], c["parameters"]) == (
        "BYTES",
        [1, 2],
        {"binary_data_size": 12},
    )
    assert (d["datatype"], d["data"]) == ("BYTES", ["ä"])
    assert body[length:] == struct.pack("<2f", 1.5, -2) + b"\2\0\0\0\xc3\xa4\2\0\0\0bc"


def test_an_answer_without_binary_data_has_no_json_length() -> None:
    assert write_answer({}, [OutputTensor("a", [["b"]], False)])[1] is None
