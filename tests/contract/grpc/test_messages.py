"""Messages that Triton's client does not send: typed contents, and what is malformed."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.api.grpc import requests, responses
from service.api.grpc.requests import read_infer_request
from service.api.grpc.wire import (
    MAX_FIELDS,
    Field,
    FieldCount,
    pack_small_integers,
    read_fields,
    read_integers,
    write_varint,
)
from service.errors import BadRequest, PayloadTooLarge
from service.http.body import Part
from tests.server import Server
from tests.service.quadrants_model import encode, light

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
service_pb2 = pytest.importorskip("tritonclient.grpc.service_pb2")
PROTO = Path(responses.__file__).with_name("open_inference.proto")


@pytest.fixture(scope="module")
def ask(grpc_server: tuple[Server, int]) -> Any:
    """The call ModelInfer of a client made from the protocol's description."""
    channel = grpc.insecure_channel(f"127.0.0.1:{grpc_server[1]}")
    stub = pytest.importorskip("tritonclient.grpc.service_pb2_grpc")
    return stub.GRPCInferenceServiceStub(channel).ModelInfer


def make_request(quarter: int, *, raw: bool, encoded: bool) -> Any:
    """Return a request for one picture and the map of its class."""
    request = service_pb2.ModelInferRequest(model_name="quadrants")
    image = request.inputs.add(name="image", datatype="BYTES" if encoded else "UINT8")
    target = request.inputs.add(name="target", datatype="INT64", shape=[1, 1])
    pixels = np.asarray(light(quarter))
    picture = encode(light(quarter))
    image.shape.extend([1] if encoded else [1, *pixels.shape])
    if raw:
        framed = len(picture).to_bytes(4, "little") + picture
        request.raw_input_contents.append(framed if encoded else pixels.tobytes())
        request.raw_input_contents.append(np.array([-1], np.int64).tobytes())
    else:
        if encoded:
            image.contents.bytes_contents.append(picture)
        else:
            image.contents.uint_contents.extend(pixels.ravel().tolist())
        target.contents.int64_contents.append(-1)
    return request


@pytest.mark.parametrize("encoded", [True, False])
@pytest.mark.parametrize("raw", [True, False])
def test_outputs_come_in_the_form_of_the_inputs(ask: Any, raw: bool, encoded: bool) -> None:
    answer = ask(make_request(2, raw=raw, encoded=encoded))
    found = {}
    for number, output in enumerate(answer.outputs):
        assert output.datatype == "FP32"
        assert output.HasField("contents") is not raw
        values = (
            np.frombuffer(answer.raw_output_contents[number], np.float32)
            if raw
            else np.array(output.contents.fp32_contents, np.float32)
        )
        found[output.name] = values.reshape(list(output.shape))
    assert len(answer.raw_output_contents) == (3 if raw else 0)
    np.testing.assert_allclose(found["logits"], [[-1, -1, 10, -1]], rtol=1e-5)
    assert found["cam"].shape == (1, 1, 4, 4)


def test_classes_in_text_come_as_typed_contents_too(ask: Any) -> None:
    request = make_request(1, raw=False, encoded=True)
    wanted = request.outputs.add(name="probabilities")
    wanted.parameters["classification"].int64_param = 1
    [output] = ask(request).outputs
    assert (output.datatype, list(output.shape)) == ("BYTES", [1, 1])
    assert output.contents.bytes_contents[0].endswith(b":1:top right")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.raw_input_contents.append(b""), "has 'contents' and raw_input_contents"),
        (lambda r: r.inputs[0].contents.int_contents.append(1), "must be in bytes_contents"),
        (lambda r: r.inputs[0].contents.Clear(), "must have 1 values, got 0"),
        (lambda r: r.inputs[0].contents.bytes_contents.append(b""), "must have 1 values, got 2"),
        (lambda r: r.inputs[1].shape.append(-1), "'inputs.1.shape.2' must"),
        (lambda r: r.inputs.add(name="image"), "was given 2 times"),
        (lambda r: [r.inputs.add(name="x") for _ in range(15)], "at most 16 items"),
        (
            lambda r: setattr(r.inputs[0].parameters["shared_memory_region"], "string_param", "a"),
            "must be left out: send the data",
        ),
    ],
)
def test_what_does_not_fit_is_rejected(ask: Any, change: Any, message: str) -> None:
    request = make_request(1, raw=False, encoded=True)
    change(request)
    if request.raw_input_contents:
        request.raw_input_contents.append(b"")
    with pytest.raises(grpc.RpcError) as caught:
        ask(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.details()


def test_there_must_be_as_many_raw_contents_as_inputs(ask: Any) -> None:
    request = make_request(1, raw=True, encoded=True)
    request.raw_input_contents.append(b"")
    with pytest.raises(grpc.RpcError) as caught:
        ask(request)
    assert "2 inputs and 3 raw_input_contents" in caught.value.details()


def test_a_million_tensors_are_rejected_before_they_are_read() -> None:
    tiny = b"\x2a\x00" * 1_000_000
    with pytest.raises(BadRequest, match=f"more than {MAX_FIELDS} fields"):
        read_infer_request(tiny)
    with pytest.raises(BadRequest, match="more than"):  # the same within an input
        read_infer_request(b"\x2a" + b"\x80\x89\x7a" + b"\x18\x01" * 1_000_000)


def test_too_many_packed_values_are_rejected() -> None:
    request = service_pb2.ModelInferRequest()
    image = request.inputs.add(name="image", datatype="UINT8")
    image.contents.uint_contents.extend(range(10))
    image.contents.uint_contents.extend([1] * 1_000_000)
    with pytest.raises(PayloadTooLarge, match="send tensors as raw_input_contents"):
        read_infer_request(request.SerializeToString())


def nest(*lengths_and_fields: bytes) -> bytes:
    """Wrap the last bytes into fields with these keys, from the inside out."""
    *keys, message = lengths_and_fields
    for key in reversed(keys):
        message = key + write_varint(len(message)) + message
    return message


def test_a_list_in_many_parts_has_no_more_values_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def count(field: Field) -> Any:
        values = read_integers(field)
        reads.append(len(values))
        return values

    monkeypatch.setattr(requests, "read_integers", count)
    part = b"\x01" * 600_000
    shape = nest(b"\x2a", nest(b"\x1a", part) * 20)
    with pytest.raises(BadRequest, match="shape"):
        read_infer_request(shape)
    assert reads == [600_000]
    contents = nest(b"\x2a", b"\x12\x05UINT8" + nest(b"\x2a", nest(b"\x22", part) * 20))
    with pytest.raises(PayloadTooLarge):
        read_infer_request(contents)
    assert len(reads) == 3


def test_inputs_beyond_the_limit_and_entries_of_many_values_are_not_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = service_pb2.ModelInferRequest()
    for number in range(60):
        request.inputs.add(name=f"input {number}", datatype="UINT8", shape=[1])
        request.raw_input_contents.append(b"1")
    read = 0
    read_input = requests._read_input

    def count(field: Field, total: FieldCount) -> Any:
        nonlocal read
        read += 1
        return read_input(field, total)

    monkeypatch.setattr(requests, "_read_input", count)
    with pytest.raises(BadRequest, match="16"):
        read_infer_request(request.SerializeToString())
    assert read == 17
    values = nest(b"\x22", nest(b"\x12", b"\x10\x01") * 100)
    with pytest.raises(BadRequest, match="more than 2 fields"):
        read_infer_request(values)
    with pytest.raises(BadRequest, match="more than 1 fields"):
        read_infer_request(nest(b"\x22", b"\x12", b"\x10\x01" * 100))


def test_fields_are_counted_in_all_messages_together() -> None:
    entry = nest(b"\x0a", b"x") + nest(b"\x12", b"\x08\x01")
    tensor = nest(b"\x2a", nest(b"\x22", entry) * 100)
    with pytest.raises(BadRequest, match="more than 1024 fields in all"):
        read_infer_request(tensor * 10)


def test_a_number_in_the_place_of_bytes_is_malformed() -> None:
    for message in (b"\x38\x01", nest(b"\x2a", b"\x12\x05BYTES" + nest(b"\x2a", b"\x40\x01"))):
        with pytest.raises(BadRequest, match="malformed"):
            read_infer_request(message)


def test_integers_are_read_as_protobuf_writes_them() -> None:
    values = [0, 1, 127, 128, 300, -1, -(2**63), 2**63 - 1, 2**35]
    contents = service_pb2.InferTensorContents(int64_contents=values)
    sent = contents.SerializeToString()
    [field] = read_fields(Part(sent, 0, len(sent)))
    assert read_integers(field).tolist() == values


def test_small_integers_are_written_as_protobuf_reads_them() -> None:
    for values in (
        np.arange(256, dtype=np.uint8),
        np.arange(128, dtype=np.uint8),
        np.empty(0, "u1"),
    ):
        packed = pack_small_integers(values)
        head = b"\x22" + bytes([len(packed) & 0x7F | 0x80, len(packed) >> 7])
        read = service_pb2.InferTensorContents.FromString(head + packed)
        assert list(read.uint_contents) == values.tolist()


def test_a_damaged_message_is_an_error_of_the_client() -> None:
    whole = make_request(1, raw=True, encoded=False).SerializeToString()
    head = whole[:200]
    numbers = np.random.default_rng(0)
    for _ in range(3000):
        damaged = bytearray(head)
        for place in numbers.integers(0, len(head), 3):
            damaged[place] = numbers.integers(0, 256)
        with contextlib.suppress(BadRequest, PayloadTooLarge):
            read_infer_request(bytes(damaged[: numbers.integers(0, len(head))]))


def read_proto() -> dict[str, dict[str, int]]:
    """Return the numbers of the fields of each message in our file."""
    messages: dict[str, dict[str, int]] = {}
    open_messages: list[str] = []
    for line in PROTO.read_text().splitlines():
        code = line.split("//")[0].strip().removesuffix(";")
        if code.startswith("message "):
            name = code.split()[1]
            messages[name] = {}
            if not code.endswith("{}"):
                open_messages.append(name)
        elif code.endswith("{"):
            open_messages.append(open_messages[-1] if open_messages else "")
        elif code == "}":
            open_messages.pop()
        elif "=" in code and open_messages:
            left, _, number = code.partition(" = ")
            messages[open_messages[-1]][left.split()[-1]] = int(number)
    return messages


def test_our_description_is_that_of_the_protocol() -> None:
    own = read_proto()
    assert len(own) == 21
    for name, message in service_pb2.DESCRIPTOR.message_types_by_name.items():
        for described in (message, *message.nested_types):
            if described.name in own and name in own:
                fields = {field.name: field.number for field in described.fields}
                assert own[described.name] == fields, described.name


def test_the_numbers_in_the_code_are_those_of_the_description() -> None:
    own = read_proto()
    infer = own["ModelInferRequest"]
    assert [requests.MODEL, requests.VERSION, requests.ID, requests.PARAMETERS] == [1, 2, 3, 4]
    assert infer["inputs"] == requests.INPUTS
    assert infer["outputs"] == requests.OUTPUTS
    assert infer["raw_input_contents"] == requests.RAW
    answered = own["ModelInferResponse"]
    assert answered["outputs"] == responses.OUTPUTS
    assert answered["raw_output_contents"] == responses.RAW
    contents = own["InferTensorContents"]
    for name, number in requests.CONTENTS_NAMES.items():
        assert contents[name] == number
    assert contents["uint_contents"] == responses.UINT_CONTENTS
    assert contents["fp32_contents"] == responses.FP32_CONTENTS
