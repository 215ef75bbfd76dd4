"""More load than the capacity: throughput, latency of rejections, and recovery.

The capacity is measured before and after each overload, with the same photographs and the same
client. All figures are shares of the mean of both, because other load on the machine affects both
alike. A client that offers five times as much uses more of the shared cores. So the throughput is
also given as a share of the capacity that the client leaves.
"""

import asyncio
import itertools
import json
import math
import statistics
from collections.abc import Iterator
from time import perf_counter
from typing import Any, NamedTuple

import psutil
import uvloop

from service.machine import count_cores
from tests.reliability import servers
from tests.reliability.client import NO_ANSWER, Client, Load, Reply, connect, offer, saturate
from tests.reliability.photographs import make_photographs
from tests.server import Server

USERS = 32  # users of the closed loop that measures the capacity
IDLE_REQUESTS = 20
SETTLING_SECONDS = 1.0  # at the start of a load, while the queues fill
RECOVERED = 3  # times the idle latency, or:
RECOVERED_SECONDS = 0.25
QUEUE_SIZE = 256  # Sightglass's default
BURST = QUEUE_SIZE + 64  # requests at once, so that some are rejected
BURST_SHARE, STEADY_SHARE = 0.4, 0.5  # of the capacity; nine tenths in total
ABANDONED = 64
FACTORS = (2, 5)
SERVED_SHARE = 0.95  # of the clients that retry after `Retry-After`
ABANDONED_CPU = 0.5  # of the cost of clients that stay
BOUNDS = (  # figure, bound, and 1 for an upper bound, -1 for a lower bound
    ("delivered_of_left", 0.9, -1),
    ("refusal_median", 0.1, 1),
    ("recovery", 5.0, 1),
    ("late", 0, 1),
    ("wrong", 0, 1),
    ("no_answer", 0, 1),
    ("without_retry_after", 0, 1),
)


class Overload(NamedTuple):
    """One overload, and the capacity before and after it."""

    factor: float
    capacity: float  # answers per second, mean of before and after
    spread: float  # difference of the two, as a share of their mean
    delivered: float  # good answers per second, as a share of the capacity
    delivered_of_left: float  # the same, of the capacity that the client's CPU use leaves
    wrong: int  # answers with another class than without load
    refused: int
    refusal_median: float  # seconds from the scheduled time
    refusal_p95: float
    without_retry_after: int
    accepted_slowest: float  # seconds
    late: int  # accepted, but not answered in time
    no_answer: int
    other: dict[str, int]  # other statuses
    recovery: float  # seconds from the end of the load
    client_share: float  # of a core


class Photographs:
    """Requests, and the answer to each without load."""

    def __init__(self, subject: str) -> None:
        self.requests = [servers.ask(subject, content) for content in make_photographs()]
        self.answers: list[int] = []

    def endless(self) -> Iterator[bytes]:
        """Repeat the requests forever."""
        return itertools.cycle(self.requests)

    async def learn(self, client: Client) -> float:
        """Send each request alone. Return the median of their seconds."""
        replies = [await client.send(request) for request in self.requests]
        self.answers = [read_index(reply) for reply in replies]
        return statistics.median(reply.seconds for reply in replies)


def read_index(reply: Reply) -> int:
    """Return the first class in the answer of either subject."""
    if reply.status != 200:
        return -1
    answer = json.loads(reply.body)
    first = answer[0] if isinstance(answer, list) else answer["predictions"][0]
    return int(first["index"])


async def overload(
    client: Client, photographs: Photographs, factor: float, seconds: float
) -> Overload:
    """Measure the capacity, offer `factor` times as much, recover, and measure again."""
    idle = await photographs.learn(client)
    before = await saturate(client, photographs.endless(), USERS, seconds)
    rate = factor * before.rate()
    loading = asyncio.create_task(offer(client, photographs.endless(), rate, seconds))
    started = perf_counter()
    await asyncio.sleep(seconds)
    recovery = await wait_recovered(client, photographs, idle)
    load = await loading
    after = await saturate(client, photographs.endless(), USERS, seconds)
    return judge(load, photographs, factor, (before, after), started, recovery)


async def wait_recovered(client: Client, photographs: Photographs, idle: float) -> float:
    """Return the seconds until a request is answered about as fast as on an idle server."""
    started = perf_counter()
    soon = max(RECOVERED * idle, RECOVERED_SECONDS)
    while True:
        reply = await client.send(photographs.requests[0])
        if reply.status == 200 and reply.seconds < soon:
            return reply.sent_at - started
        if perf_counter() - started > 60:
            return math.inf
        await asyncio.sleep(0.05)


def judge(
    load: Load,
    photographs: Photographs,
    factor: float,
    around: tuple[Load, Load],
    started: float,
    recovery: float,
) -> Overload:
    """Compute the figures of one load."""
    capacities = [one.rate() for one in around]
    capacity = statistics.mean(capacities)
    heavier = load.client_share - statistics.mean(one.client_share for one in around)
    left = 1 - heavier / count_cores()
    good, refused = [], []
    wrong, no_answer = 0, 0
    other: dict[str, int] = {}
    for number, reply in enumerate(load.replies):
        if reply.status == 200:
            good.append(reply)
            wrong += read_index(reply) != photographs.answers[number % len(photographs.answers)]
        elif reply.status == 429:
            refused.append(reply)
        elif reply.status == NO_ANSWER:
            no_answer += 1
        else:
            other[str(reply.status)] = other.get(str(reply.status), 0) + 1
    window = (started + SETTLING_SECONDS, started + load.seconds)
    in_time = sum(window[0] < reply.sent_at + reply.seconds < window[1] for reply in good)
    delivered = in_time / (window[1] - window[0]) / capacity
    waits = sorted(reply.seconds for reply in refused) or [math.nan]
    return Overload(
        factor=factor,
        capacity=capacity,
        spread=abs(capacities[0] - capacities[1]) / capacity,
        delivered=delivered,
        delivered_of_left=delivered / left,
        wrong=wrong,
        refused=len(refused),
        refusal_median=statistics.median(waits),
        refusal_p95=waits[int(0.95 * len(waits))],
        without_retry_after=sum("retry-after" not in reply.headers for reply in refused),
        accepted_slowest=max((reply.seconds for reply in good), default=math.nan),
        late=other.get("504", 0),
        no_answer=no_answer,
        other=other,
        recovery=recovery,
        client_share=load.client_share,
    )


class Retries(NamedTuple):
    """The outcome for clients that were rejected and waited for `Retry-After`."""

    refused: int
    served: int  # on the next attempt
    offered: float  # attempts per second in total, as a share of the capacity


async def measure_retries(client: Client, photographs: Photographs, rounds: int) -> Retries:
    """Offer half the capacity steadily, with bursts; nine tenths of the capacity in total."""
    capacity = (await saturate(client, photographs.endless(), USERS, 4)).rate()
    period = BURST / (BURST_SHARE * capacity)
    retries: list[tuple[Reply, Reply]] = []
    tries = 0

    async def send_with_retry(request: bytes) -> None:
        nonlocal tries
        tries += 1
        first = await client.send(request)
        if first.status == 429:
            await asyncio.sleep(int(first.headers["retry-after"]))
            tries += 1
            retries.append((first, await client.send(request)))

    requests = photographs.endless()
    started = perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            due = number / (STEADY_SHARE * capacity)
            if due > rounds * period:
                break
            if (pause := started + due - perf_counter()) > 0:
                await asyncio.sleep(pause)
            if due // period > (number - 1) / (STEADY_SHARE * capacity) // period:
                for _ in range(BURST):
                    group.create_task(send_with_retry(next(requests)))
            group.create_task(send_with_retry(next(requests)))
    lasted = perf_counter() - started
    served = sum(second.status == 200 for _, second in retries)
    return Retries(len(retries), served, tries / lasted / capacity)


class Abandonment(NamedTuple):
    """The work of a server for clients that have disconnected."""

    left: int
    cpu: float  # CPU time of the workers, as a share of the time for as many clients that stay
    next_seconds: float  # latency of the next request, as a multiple of an idle server's


async def abandon(server: Server, client: Client, photographs: Photographs) -> Abandonment:
    """Run a burst of clients that stay, then a burst that disconnects after sending."""
    idle = await photographs.learn(client)
    requests = photographs.endless()
    at_first = measure_cpu(server)
    await asyncio.gather(*(client.send(next(requests)) for _ in range(ABANDONED)))
    for_all = measure_cpu(server) - at_first
    before = measure_cpu(server)
    writers = []
    for _ in range(ABANDONED):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(next(requests))
        await writer.drain()
        writers.append(writer)
    for writer in writers:
        writer.transport.abort()
    reply = await client.send(next(requests))
    await asyncio.sleep(ABANDONED * idle)
    return Abandonment(ABANDONED, (measure_cpu(server) - before) / for_all, reply.seconds / idle)


def find_missed(figures: dict[str, Any]) -> list[str]:
    """Return the bounds that the medians of the rounds miss."""
    missed = []
    for factor in FACTORS:
        rounds = [o for o in figures["overloads"] if o["factor"] == factor]
        for name, bound, sign in BOUNDS:
            value = statistics.median(one[name] for one in rounds)
            if sign * value > sign * bound:
                missed.append(f"{name} at {factor} times the capacity is {value:.3g}, not {bound}")
    obedience = figures["obedience"]
    if obedience["served"] < SERVED_SHARE * obedience["refused"]:
        missed.append(f"of {obedience['refused']} who came back, {obedience['served']} were served")
    if figures["abandonment"]["cpu"] > ABANDONED_CPU:
        missed.append(f"the abandoned cost {figures['abandonment']['cpu']:.0%} of the others")
    return missed


def measure_cpu(server: Server) -> float:
    """Return the CPU seconds of the workers."""
    times = [psutil.Process(pid).cpu_times() for pid in server.find_workers()]
    return float(sum(time.user + time.system for time in times))


def run(server: Server, subject: str, seconds: float, rounds: int) -> dict[str, Any]:
    """Run all rounds on a running server."""

    async def measure() -> dict[str, Any]:
        photographs = Photographs(subject)
        async with connect(server.port) as client:
            await saturate(client, photographs.endless(), USERS, 2)  # warm
            overloads = [
                await overload(client, photographs, factor, seconds)
                for _ in range(rounds)
                for factor in FACTORS
            ]
            figures: dict[str, Any] = {"overloads": [o._asdict() for o in overloads]}
            figures["abandonment"] = (await abandon(server, client, photographs))._asdict()
            if subject == servers.SIGHTGLASS:
                figures["obedience"] = (
                    await measure_retries(client, photographs, rounds)
                )._asdict()
            return figures

    return uvloop.run(measure())  # uvloop's clients use less of the shared cores
