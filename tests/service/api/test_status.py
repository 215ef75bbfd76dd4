"""The answer on attention, which is long if a model has many classes."""

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.api.status import StatusEndpoints, encode_attention, encode_models
from service.http.request import Request
from service.http.response import encode_json
from service.schemas import AttentionAnswer, ClassAttention, ModelEntry, ModelVersion

COMPARED: ClassAttention = {
    "observed": {"maps": 3, "border_share": 0.25, "mean": [[0.5, 1.0]]},
    "reference": None,
    "distance": None,
}
LABELS = ['a "quoted" label', "ä", "back\\slash"]
ANSWER: AttentionAnswer = {
    "model": "lenet5",
    "version": "1",
    **COMPARED,
    "classes": dict.fromkeys(LABELS, COMPARED),
}


def test_an_answer_encoded_in_pieces_is_the_same() -> None:
    assert json.loads(encode_attention(ANSWER)) == json.loads(encode_json(ANSWER))
    empty: AttentionAnswer = {**ANSWER, "classes": {}}
    assert json.loads(encode_attention(empty)) == empty


def test_models_encoded_in_pieces_are_the_same_and_have_no_more_than_the_limit_of_cards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make_version(number: int) -> ModelVersion:
        facts = {"reason": None, "provider": "cpu", "sha256": "1f"}
        card = {"license": "x" * 500}
        return cast(ModelVersion, {"version": str(number), "state": "ready", **facts, "card": card})

    encoded: list[object] = []

    def record(content: object) -> bytes:
        encoded.append(content)
        return encode_json(content)

    versions = [make_version(number) for number in (1, 2, 3)]
    entries: list[ModelEntry] = [
        {"name": "a", "default": True, "versions": versions},
        {"name": "b", "default": False, "versions": []},
    ]
    assert json.loads(b"[%b]" % encode_models(entries)) == entries
    monkeypatch.setattr("service.api.status.MAX_CARD_BYTES", 600)
    monkeypatch.setattr("service.api.status.encode_json", record)
    [first, second, third] = json.loads(b"[%b]" % encode_models(entries))[0]["versions"]
    assert first["card"] == versions[0]["card"]
    assert second == {**versions[1], "card": None}
    assert third == {**versions[2], "card": None}
    assert encoded.count(versions[0]["card"]) == 2, (
        "the first that fits, and the first that does not"
    )


def test_answers_are_made_in_one_thread_at_a_time() -> None:
    threads: list[threading.Thread] = []
    active: list[str] = []

    def describe(name: str, version: str) -> AttentionAnswer:
        threads.append(threading.current_thread())
        active.append(name)
        assert len(active) == 1
        threading.Event().wait(0.01)
        active.clear()
        return {**ANSWER, "model": name, "version": version}

    attention = SimpleNamespace(describe=describe)
    model = SimpleNamespace(name="lenet5", version="1", attention=attention)
    repository = cast(Any, SimpleNamespace(find=lambda _: model))
    request = cast(Request, SimpleNamespace(query=[], path_params={"name": "lenet5"}))

    async def run() -> list[Any]:
        endpoints = StatusEndpoints(repository, cast(Any, None), cast(Any, None), cast(Any, None))
        responses = await asyncio.gather(*(endpoints.attention(request) for _ in range(4)))
        return [json.loads(bytes(response.body)) for response in responses]

    assert asyncio.run(run()) == [ANSWER] * 4
    assert threading.current_thread() not in threads
