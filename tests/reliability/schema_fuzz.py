"""Requests made by schemathesis from our own OpenAPI: fitting ones, and ones that should not fit.

Every answer must be one that the description declares, of the shape it declares, and never a 5xx.
In place of random bytes many requests carry a real picture, or a damaged one.
"""

import base64
import random
from collections import Counter
from collections.abc import Collection
from typing import Any, NamedTuple

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.reliability.mutations import make_pictures, mutate
from tests.server import Server

REAL_SHARE = 0.7  # of the requests with a picture in it
PATIENCE = 60.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Described(NamedTuple):
    """What came of it."""

    requests: int
    statuses: dict[int, int]
    faults: list[str]  # the first of each operation and mode


def fuzz_described(
    server: Server, examples: int, paths: Collection[str] = (), seed: int = 0
) -> Described:
    """So many requests for each operation of these paths (none: all of them), fitting or not."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    pictures = make_pictures()
    source = random.Random(seed)
    statuses: Counter[int] = Counter()
    faults: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()  # type: ignore[union-attr]  # our description is sound
        if paths and operation.path not in paths:
            continue
        for mode in GenerationMode:
            try:
                strategy = operation.as_strategy(generation_mode=mode)
                send_all(server, strategy, examples, pictures, source, statuses)
            except Exception as fault:  # Hypothesis raises what the check raised, or a group
                if "Unsatisfiable" in type(fault).__name__:
                    continue  # nothing in it could be made wrong
                faults.append(f"{operation.label}, {mode.value}: {describe(fault)}")
    return Described(statuses.total(), dict(sorted(statuses.items())), faults)


def send_all(
    server: Server,
    strategy: st.SearchStrategy[Case[Any]],
    examples: int,
    pictures: list[bytes],
    source: random.Random,
    statuses: Counter[int],
) -> None:
    """Of one operation."""
    with requests.Session() as session:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def send(case: Case[Any]) -> None:
            if source.random() < REAL_SHARE:
                put_picture(case, pictures, source)
            response = case.call(base_url=server.url, session=session, timeout=PATIENCE)
            statuses[response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        send()


def put_picture(case: Case[Any], pictures: list[bytes], source: random.Random) -> None:
    """A real picture, or a damaged one, where the request has any."""
    picture = source.choice(pictures)
    if source.random() < 0.5:
        picture = mutate(picture, pictures, source)
    if isinstance(case.body, bytes):
        case.body = picture
    elif isinstance(case.body, dict):
        text = base64.b64encode(picture).decode()
        content: Any = text if case.media_type == "application/json" else picture
        for name, value in (("image", content), ("images", [content])):
            if name in case.body:
                several = isinstance(case.body[name], list) and name == "image"
                case.body[name] = [content] if several else value


def describe(fault: BaseException) -> str:
    """The whole of what a group of failures says, in few lines."""
    if isinstance(fault, BaseExceptionGroup):
        return "; ".join(describe(one) for one in fault.exceptions)
    return " ".join(f"{type(fault).__name__}: {fault}".split())[:600]
