"""Requests that schemathesis generates from our OpenAPI document: valid and invalid ones.

Every answer must match a response that the document declares, and must never be a 5xx. Many
requests contain a real or damaged picture instead of random bytes.
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

REAL_SHARE = 0.7  # of the requests with a picture
PATIENCE = 60.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


class Described(NamedTuple):
    """The result."""

    requests: int
    statuses: dict[int, int]
    faults: list[str]  # the first fault of each operation and mode


def fuzz_described(
    server: Server, examples: int, paths: Collection[str] = (), seed: int = 0
) -> Described:
    """Send `examples` valid and invalid requests for each operation of these paths.

    An empty `paths` means all paths.
    """
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
            except Exception as error:  # Hypothesis raises the check's exception or a group
                if "Unsatisfiable" in type(error).__name__:
                    continue  # no invalid request exists for it
                faults.append(f"{operation.label}, {mode.value}: {describe(error)}")
    return Described(statuses.total(), dict(sorted(statuses.items())), faults)


def send_all(
    server: Server,
    strategy: st.SearchStrategy[Case[Any]],
    examples: int,
    pictures: list[bytes],
    source: random.Random,
    statuses: Counter[int],
) -> None:
    """Send the generated requests of one operation."""
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
    """Insert a real or damaged picture if the request has one."""
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


def describe(error: BaseException) -> str:
    """Return a group's failures in few lines."""
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(describe(one) for one in error.exceptions)
    return " ".join(f"{type(error).__name__}: {error}".split())[:600]
