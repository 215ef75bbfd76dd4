"""Attacks that no HTTP client makes: single bytes, half requests, ten thousand headers, no end.

Well-behaved clients run during each attack and must not be affected. After the attack, nothing of
it may remain. The module writes raw bytes to sockets.
"""

import asyncio
import contextlib
import statistics
from collections import Counter
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import NamedTuple

import psutil

from tests.contract.wire import read_metric
from tests.reliability.client import Client, Reply, connect, read_reply
from tests.reliability.photographs import make_request
from tests.server import Server, wait_until
from tests.service.quadrants_model import encode, light

ATTACKERS = 100
PICTURE = encode(light(1))
GOOD = make_request("/predict", PICTURE)
PATIENCE = 30.0
Attack = Callable[[int, float], Awaitable[str]]


class AttackResult(NamedTuple):
    """The result of one attack."""

    attack: str
    ends: dict[str, int]  # how the attackers' connections ended
    others: int  # well-behaved requests during the attack
    unanswered: int  # of these requests
    slowdown: float  # their median latency, divided by the median without an attack
    left: str  # what remained some time after; empty if nothing


async def drip_headers(port: int, seconds: float) -> str:
    """Sends the headers, one byte per second."""
    return await drip(port, GOOD, seconds)


async def drip_body(port: int, seconds: float) -> str:
    """Sends all headers, then one byte of the body per second."""
    head, _, body = GOOD.partition(b"\r\n\r\n")
    return await drip(port, body, seconds, head + b"\r\n\r\n")


async def drip(port: int, content: bytes, seconds: float, at_once: bytes = b"") -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(at_once)
    end = perf_counter() + seconds
    for at in range(len(content)):
        if perf_counter() > end or reader.at_eof():
            break
        writer.write(content[at : at + 1])
        await asyncio.sleep(1)
    return await read_and_close(reader, writer)


async def send_chunks_without_end(port: int, seconds: float) -> str:
    """Sends a chunked body that never ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(read_reply(reader))
    writer.write(b"POST /predict HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
    end = perf_counter() + seconds
    while perf_counter() < end and not answer.done():
        writer.write(b"1000\r\n" + bytes(4096) + b"\r\n")
        await asyncio.sleep(0.01)
    return await describe_end(answer, writer)


async def half_close(port: int, _: float) -> str:
    """Sends a whole request, closes the sending side and reads on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GOOD)
    writer.write_eof()
    return await describe_end(asyncio.create_task(read_reply(reader)), writer)


async def disconnect_in_headers(port: int, _: float) -> str:
    """Disconnects in the middle of the headers."""
    return await disconnect(port, GOOD[:40])


async def disconnect_in_body(port: int, _: float) -> str:
    """Disconnects in the middle of the body."""
    return await disconnect(port, GOOD[:-20])


async def disconnect_after_request(port: int, _: float) -> str:
    """Disconnects after the whole request."""
    return await disconnect(port, GOOD)


async def disconnect(port: int, content: bytes) -> str:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(content)
    await writer.drain()
    writer.transport.abort()
    return "left"


async def pipeline(port: int, _: float) -> str:
    """Sends twenty requests at once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GOOD * 20)
    statuses = [(await read_reply(reader))[0] for _ in range(20)]
    writer.close()
    return f"20 times {statuses[0]}" if len(set(statuses)) == 1 else str(statuses)


ABSURD = {
    "a header of 1 MB": b"GET /livez HTTP/1.1\r\nHost: t\r\nX: " + b"a" * (1 << 20) + b"\r\n\r\n",
    "20,000 headers": b"GET /livez HTTP/1.1\r\nHost: t\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
    "a URL of 1 MB": b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: t\r\n\r\n",
    "NUL in a header": b"GET /livez HTTP/1.1\r\nHost: t\r\nX: \0\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "an unknown method": b"BREW /predict HTTP/1.1\r\nHost: t\r\n\r\n",
    "a negative length": b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Length: -1\r\n\r\n",
    "an enormous length": b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Length: "
    + b"9" * 30
    + b"\r\n\r\n",
    "two lengths": b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n"
    b"Content-Length: 2\r\n\r\nab",
    "length and chunks": b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Length: 1\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no chunk size": b"POST /predict HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"zz\r\n",
    "another version": b"GET /livez HTTP/9.9\r\nHost: t\r\n\r\n",
    "an upgrade": b"GET /predict HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade"
    b"\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    "a type without end": b"POST /predict HTTP/1.1\r\nHost: t\r\nContent-Type: multipart/form-data;"
    b' boundary="' + b"b" * 5000 + b"\r\nContent-Length: 1\r\n\r\na",
}


async def send_absurd(port: int, content: bytes) -> str:
    """Send a malformed request. Return how it was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(read_reply(reader))
    with contextlib.suppress(OSError):
        writer.write(content)
        await writer.drain()
    return await describe_end(answer, writer)


async def describe_end(
    answer: asyncio.Task[tuple[int, dict[str, str], bytes]], writer: asyncio.StreamWriter
) -> str:
    try:
        async with asyncio.timeout(PATIENCE):
            status, _, _ = await answer
        return str(status)
    except TimeoutError:
        return "nothing"
    except (OSError, EOFError, ValueError):
        return "closed"
    finally:
        writer.close()


async def read_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    """Return the answer so far, if any, and close the connection."""
    try:
        async with asyncio.timeout(0.5):
            status, _, _ = await read_reply(reader)
        return str(status)
    except TimeoutError:
        return "still waiting"
    except (OSError, EOFError, ValueError):
        return "closed"
    finally:
        writer.close()


ATTACKS: tuple[Attack, ...] = (
    drip_headers,
    drip_body,
    send_chunks_without_end,
    half_close,
    disconnect_in_headers,
    disconnect_in_body,
    disconnect_after_request,
    pipeline,
)


async def run_attack(
    server: Server, attack: Attack, attackers: int, seconds: float
) -> AttackResult:
    """Run the attack, with a well-behaved client at the same time."""
    async with connect(server.port, PATIENCE) as client:
        alone = [await client.send(GOOD) for _ in range(50)]
        attacking = asyncio.gather(
            *(attack(server.port, seconds) for _ in range(attackers)), return_exceptions=True
        )
        meanwhile = await send_during(client, attacking)
        ends = [end if isinstance(end, str) else type(end).__name__ for end in await attacking]
    answered = [reply.seconds for reply in meanwhile if reply.status == 200]
    usual = statistics.median(reply.seconds for reply in alone)
    return AttackResult(
        (attack.__doc__ or "").splitlines()[0],
        dict(Counter(ends).most_common()),
        len(meanwhile),
        len(meanwhile) - len(answered),
        statistics.median(answered) / usual if answered else float("inf"),
        await asyncio.to_thread(find_leftovers, server),
    )


async def send_during(
    client: Client, attacking: "asyncio.Future[list[str | BaseException]]"
) -> list[Reply]:
    """Send one request after another until the attack ends."""
    replies = [await client.send(GOOD)]
    while not attacking.done():
        replies.append(await client.send(GOOD))
        await asyncio.sleep(0.01)
    return replies


def find_leftovers(server: Server) -> str:
    """Return reserved memory and connections that remain, after some time for both to go."""

    def count() -> tuple[float, float, int]:
        connections = [
            c
            for pid in server.find_workers()
            for c in psutil.Process(pid).net_connections("tcp")
            if c.status != psutil.CONN_LISTEN
        ]
        return (
            read_metric(server, "sightglass_queue_images"),
            read_metric(server, "sightglass_inflight_bytes"),
            len(connections),
        )

    with contextlib.suppress(AssertionError):
        wait_until(lambda: count()[:2] == (0, 0) and count()[2] <= 2, 15)
        return ""
    return "images {:.0f}, bytes {:.0f}, connections {}".format(*count())


def run_all_attacks(
    server: Server, attackers: int = ATTACKERS, seconds: float = 12
) -> tuple[list[AttackResult], dict[str, str]]:
    """Run every attack, then send each malformed request."""
    results = [asyncio.run(run_attack(server, attack, attackers, seconds)) for attack in ATTACKS]
    absurd = {what: asyncio.run(send_absurd(server.port, sent)) for what, sent in ABSURD.items()}
    return results, absurd
