"""What happens on the connection: deadlines, messages in parts, cancelled calls, limits."""

import gzip
import socket
from functools import partial
from typing import Any

import pytest

from tests.contract.grpc.conftest import KEY, MAX_REQUEST_BYTES
from tests.contract.wire import read_metric
from tests.server import Server, wait_until

pytest.importorskip("h2", reason="the extra grpc is not installed")
from h2.settings import SettingCodes

from service.server.grpc.state import MAX_TABLE_BYTES, make_h2
from tests.grpc_connection import SERVICE, Answer, connect, frame

OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED = 0, 3, 4, 8, 12
AUTHORIZED = ("authorization", f"Bearer {KEY}")


def test_a_message_may_come_in_parts(grpc_server: tuple[Server, int]) -> None:
    with connect(grpc_server[1]) as connection:
        stream = connection.start("ModelReady")
        for byte in frame(b"\x0a\x09quadrants"):
            connection.send(stream, bytes([byte]))
        connection.h2.end_stream(stream)
        connection.flush()
        answer = connection.wait(stream)
    assert (answer.status, answer.message) == (OK, frame(b"\x08\x01"))


def test_an_answer_comes_byte_by_byte_if_the_client_takes_no_more(
    grpc_server: tuple[Server, int],
) -> None:
    with connect(grpc_server[1]) as connection:
        connection.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 1})
        stream = connection.start("ModelReady")
        connection.send(stream, frame(b"\x0a\x09quadrants"), end=True)
        answer = connection.answers[stream]
        while not answer.is_over:
            before = len(answer.message)
            assert connection.receive(takes=False)
            assert len(answer.message) - before <= 1
            if len(answer.message) > before and not answer.is_over:
                connection.h2.increment_flow_control_window(1, stream)
                connection.flush()
    assert (answer.status, answer.message) == (OK, frame(b"\x08\x01"))


def test_a_client_with_room_for_more_headers_does_not_make_the_server_remember_them() -> None:
    state = make_h2()
    state.encoder.header_table_size = 1 << 31
    for number in range(1000):
        state.encoder.encode([("x-request-id", f"{number:0100}")])
    assert state.encoder.header_table_size == MAX_TABLE_BYTES
    assert len(state.encoder.header_table.dynamic_entries) < 100


def test_a_message_over_the_limit_is_rejected_before_it_comes(strict: tuple[Server, int]) -> None:
    with connect(strict[1]) as connection:
        stream = connection.start("ModelInfer", AUTHORIZED)
        connection.send(stream, frame(b"", length=MAX_REQUEST_BYTES + 1))
        answer = connection.wait(stream)
        assert answer.status == RESOURCE_EXHAUSTED
        assert f"longer than {MAX_REQUEST_BYTES} bytes" in answer.sentence
        assert connection.call("ServerLive", b"").status == OK  # the connection goes on


def test_a_compressed_message_is_limited_by_what_it_unpacks_to(strict: tuple[Server, int]) -> None:
    packed = gzip.compress(bytes(50_000_000))
    with connect(strict[1]) as connection:
        stream = connection.start("ModelInfer", AUTHORIZED, ("grpc-encoding", "gzip"))
        connection.send(stream, frame(packed, flag=1), end=True)
        answer = connection.wait(stream)
    assert answer.status == RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("data", "fields", "status", "sentence"),
    [
        (b"", (), INVALID_ARGUMENT, "not complete"),
        (frame(b"abc", length=9), (), INVALID_ARGUMENT, "not complete"),
        (frame(b"") * 2, (), INVALID_ARGUMENT, "More than one message"),
        (frame(b"\xff"), (), INVALID_ARGUMENT, "malformed"),
        (frame(b"", flag=1), (("grpc-encoding", "br"),), INVALID_ARGUMENT, ""),
        (frame(b"x", flag=1), (("grpc-encoding", "br"),), INVALID_ARGUMENT, "gzip, deflate"),
        (frame(b""), (("grpc-timeout", "soon"),), INVALID_ARGUMENT, "grpc-timeout 'soon'"),
        (frame(b""), tuple((f"x-{n}", "y") for n in range(130)), INVALID_ARGUMENT, "128 lines"),
    ],
)
def test_a_malformed_call_is_rejected_with_the_reason(
    grpc_server: tuple[Server, int],
    data: bytes,
    fields: tuple[tuple[str, str], ...],
    status: int,
    sentence: str,
) -> None:
    with connect(grpc_server[1]) as connection:
        stream = connection.start("ModelMetadata", *fields)
        connection.send(stream, data, end=True)
        answer = connection.wait(stream)
        if sentence:
            assert (answer.status, sentence in answer.sentence) == (status, True), answer
        assert connection.call("ServerLive", b"").status == OK


def test_an_unknown_call_is_unimplemented(grpc_server: tuple[Server, int]) -> None:
    with connect(grpc_server[1]) as connection:
        assert connection.call("ModelStreamInfer", b"").status == UNIMPLEMENTED


def test_what_is_no_grpc_is_refused(grpc_server: tuple[Server, int]) -> None:
    with connect(grpc_server[1]) as connection:
        stream = connection.h2.get_next_available_stream_id()
        names = (":method", ":scheme", ":path", ":authority")
        values = ("GET", "http", f"{SERVICE}/ServerLive", "test")
        connection.answers[stream] = Answer()
        connection.h2.send_headers(stream, list(zip(names, values, strict=True)), end_stream=True)
        connection.flush()
        assert connection.wait(stream).headers[":status"] == "415"


@pytest.mark.parametrize("begun", [b"", frame(b"x", length=100)])
def test_the_clients_deadline_counts(grpc_server: tuple[Server, int], begun: bytes) -> None:
    with connect(grpc_server[1]) as connection:
        stream = connection.start("ModelInfer", ("grpc-timeout", "50m"))
        connection.send(stream, begun)
        answer = connection.wait(stream)
    assert answer.status == DEADLINE_EXCEEDED
    assert "within 50 ms" in answer.sentence


def test_answers_carry_the_request_id(grpc_server: tuple[Server, int]) -> None:
    with connect(grpc_server[1]) as connection:
        assert connection.call("ServerLive", b"", ("x-request-id", "a-1")).headers[
            "x-request-id"
        ] == ("a-1")
        refused = connection.call("ModelInfer", b"", ("x-request-id", "a-2"))
    assert refused.headers["x-request-id"] == "a-2"
    assert refused.status == INVALID_ARGUMENT


def test_a_cancelled_call_frees_what_it_held(grpc_server: tuple[Server, int]) -> None:
    server, port = grpc_server
    with connect(port) as connection:
        stream = connection.start("ModelInfer", ("x-request-id", "gone"))
        connection.send(stream, frame(b"x" * 1000, length=100_000))
        wait_until(lambda: read_metric(server, "sightglass_inflight_bytes") == 1000)
        connection.h2.reset_stream(stream)
        connection.flush()
        [line] = server.wait_events(lambda event: event.get("request_id") == "gone")
        assert (line["status"], line["code"]) == (499, "client_gone")
    wait_until(lambda: read_metric(server, "sightglass_inflight_bytes") == 0)
    assert read_metric(server, "sightglass_queue_images") == 0


def test_cancelled_calls_leave_the_connection_its_window(grpc_server: tuple[Server, int]) -> None:
    """The end of each comes in one piece with more of its message, which nobody reads."""
    with connect(grpc_server[1]) as connection:
        for _ in range(30):
            stream = connection.start("ModelInfer")
            connection.send(stream, frame(b"x", length=100_000))
            assert connection.call("ServerLive", b"").status == OK  # so the first part was read
            for _ in range(3):
                connection.h2.send_data(stream, bytes(16_000))
            connection.h2.reset_stream(stream)
            connection.flush()
        assert connection.call("ModelInfer", bytes(200_000)).status == INVALID_ARGUMENT


def has_request_id(wanted: str, event: dict[str, Any]) -> bool:
    return event.get("request_id") == wanted


def test_a_method_of_http_is_not_repeated(grpc_server: tuple[Server, int]) -> None:
    server, port = grpc_server
    with connect(port) as connection:
        for headers in (
            [(":method", "X" * 9000), (":scheme", "http"), (":path", f"{SERVICE}/ServerLive")],
            [(":method", "CONNECT")],
        ):
            stream = connection.h2.get_next_available_stream_id()
            fields = [(":authority", "test"), ("content-type", "application/grpc")]
            fields.append(("x-request-id", f"method-{stream}"))
            connection.answers[stream] = Answer()
            connection.h2.send_headers(stream, headers + fields, end_stream=True)
            connection.flush()
            assert "X" * 100 not in connection.wait(stream).sentence
            name = f"method-{stream}"
            [line] = server.wait_events(partial(has_request_id, name))
            assert line["method"] == "_OTHER"


def test_calls_on_one_connection_do_not_wait_for_each_other(
    grpc_server: tuple[Server, int],
) -> None:
    with connect(grpc_server[1]) as connection:
        slow = connection.start("ModelInfer")
        connection.send(slow, frame(b"x", length=100))
        assert connection.call("ServerLive", b"").status == OK
        assert not connection.answers[slow].is_over


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9 * 2000),
    ],
)
def test_what_is_no_http2_ends_the_connection(
    grpc_server: tuple[Server, int], garbage: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", grpc_server[1]), timeout=30) as connection:
        connection.sendall(garbage)
        while True:
            try:
                if not connection.recv(4096):
                    break
            except ConnectionError:
                break
    with connect(grpc_server[1]) as other:
        assert other.call("ServerLive", b"").status == OK
