"""More is asked than can be done: what is still delivered, who is refused how soon, how it ends.

Capacity is measured before and after each overload with the same photographs and the same client,
and all figures are shares of the mean of both: what else the machine does moves both alike. Who
offers five times as much takes more of the cores that both share, so what is delivered is also told
as a share of the capacity that the client leaves.
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

USERS = 32  # of the closed loop that finds the capacity
IDLE_REQUESTS = 20
SETTLING_SECONDS = 1.0  # at the start of a load, while queues fill
RECOVERED = 3  # times the idle time, or:
RECOVERED_SECONDS = 0.25
QUEUE_SIZE = 256  # Sightglass's default
CROWD = QUEUE_SIZE + 64  # who come at once, so that some are refused
CROWD_SHARE, STEADY_SHARE = 0.4, 0.5  # of the capacity: nine tenths in all
ABANDONED = 64
FACTORS = (2, 5)
SERVED_SHARE = 0.95  # of those who come back when they were told to
ABANDONED_CPU = 0.5  # of what they would have cost, had they stayed
BOUNDS = (  # figure, bound, and 1 where it must not be above, -1 where it must not be below
    ("delivered_of_left", 0.9, -1),
    ("refusal_median", 0.1, 1),
    ("recovery", 5.0, 1),
    ("late", 0, 1),
    ("wrong", 0, 1),
    ("no_answer", 0, 1),
    ("without_retry_after", 0, 1),
)


class Overload(NamedTuple):
    """One overload, and the capacity around it."""

    factor: float
    capacity: float  # answers a second, mean of before and after
    spread: float  # between the two, as a share of their mean
    delivered: float  # good answers a second, as a share of the capacity
    delivered_of_left: float  # the same, of the capacity that a heavier client leaves of the cores
    wrong: int  # answers that name another class than they do alone
    refused: int
    refusal_median: float  # seconds, from when it was to leave
    refusal_p95: float
    without_retry_after: int
    accepted_slowest: float  # seconds
    late: int  # accepted, and yet not answered in time
    no_answer: int
    other: dict[str, int]  # statuses that are neither
    recovery: float  # seconds from the load's end
    client_share: float  # of a core


class Photographs:
    """Requests in turn, and what each is answered alone."""

    def __init__(self, subject: str) -> None:
        self.requests = [servers.ask(subject, content) for content in make_photographs()]
        self.answers: list[int] = []

    def endless(self) -> Iterator[bytes]:
        """One after the other."""
        return itertools.cycle(self.requests)

    async def learn(self, client: Client) -> float:
        """Ask for each alone; the median of seconds."""
        replies = [await client.send(request) for request in self.requests]
        self.answers = [read_index(reply) for reply in replies]
        return statistics.median(reply.seconds for reply in replies)


def read_index(reply: Reply) -> int:
    """The class that either subject names first."""
    if reply.status != 200:
        return -1
    answer = json.loads(reply.body)
    first = answer[0] if isinstance(answer, list) else answer["predictions"][0]
    return int(first["index"])


async def overload(
    client: Client, photographs: Photographs, factor: float, seconds: float
) -> Overload:
    """Capacity, `factor` times as much, recovery, capacity again."""
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
    """Seconds from now until a request is answered about as soon as on an idle server."""
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
    """The figures of one load."""
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


class Obedience(NamedTuple):
    """What became of those who were refused and came back when they were told to."""

    refused: int
    served: int  # on their next try
    offered: float  # tries a second in all, as a share of the capacity


async def obey(client: Client, photographs: Photographs, rounds: int) -> Obedience:
    """Half the capacity steadily, and now and then a crowd at once: nine tenths of it in all."""
    capacity = (await saturate(client, photographs.endless(), USERS, 4)).rate()
    period = CROWD / (CROWD_SHARE * capacity)
    retries: list[tuple[Reply, Reply]] = []
    tries = 0

    async def insist(request: bytes) -> None:
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
                for _ in range(CROWD):
                    group.create_task(insist(next(requests)))
            group.create_task(insist(next(requests)))
    lasted = perf_counter() - started
    served = sum(second.status == 200 for _, second in retries)
    return Obedience(len(retries), served, tries / lasted / capacity)


class Abandonment(NamedTuple):
    """What a server does for clients that have left."""

    left: int
    cpu: float  # seconds of the workers for them, as a share of those for as many who stay
    next_seconds: float  # until who comes next is answered, as a multiple of an idle server's


async def abandon(server: Server, client: Client, photographs: Photographs) -> Abandonment:
    """A crowd that stays, then a crowd that leaves once it has sent all."""
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
    """What is out of bounds, by the medians of the rounds."""
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
    """Seconds of CPU the workers have taken."""
    times = [psutil.Process(pid).cpu_times() for pid in server.find_workers()]
    return float(sum(time.user + time.system for time in times))


def run(server: Server, subject: str, seconds: float, rounds: int) -> dict[str, Any]:
    """All of it, on a running server."""

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
                figures["obedience"] = (await obey(client, photographs, rounds))._asdict()
            return figures

    return uvloop.run(measure())  # whose clients take less of the cores they share
