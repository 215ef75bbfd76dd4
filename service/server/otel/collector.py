"""Talks to a collector of OpenTelemetry, and reads only the beginning of what it answers."""

import io
from typing import Any

import requests

MAX_ANSWER_BYTES = 65_536


def make_session() -> requests.Session:
    """Return a session for an exporter, which reads any answer whole."""
    session = requests.Session()
    session.stream = True  # so that requests does not read it, either
    session.hooks["response"].append(_cut)
    return session


def _cut(answer: requests.Response, *_: Any, **__: Any) -> None:
    sent = answer.raw
    answer.raw = io.BytesIO(sent.read(MAX_ANSWER_BYTES))
    sent.close()
