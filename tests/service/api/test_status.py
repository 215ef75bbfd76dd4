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
from service.repository.model import ListedModel, ListedVersion
from service.schemas import AttentionAnswer, ClassAttention

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
    card = {"license": "x" * 500}

    def make_version(number: int, content: bytes | None) -> ListedVersion:
        facts = {"reason": None, "provider": "cpu", "sha256": "1f"}
        state = {"version": str(number), "state": "ready", **facts, "card": content}
        return cast(ListedVersion, state)

    cards = [encode_json(card), None, encode_json(card), encode_json(card)]
    versions = [make_version(number, content) for number, content in enumerate(cards)]
    entries: list[ListedModel] = [
        {"name": "a", "default": True, "versions": versions},
        {"name": "b", "default": False, "versions": []},
    ]

    def read_cards() -> list[object]:
        [model, other] = json.loads(b"[%b]" % encode_models(entries))
        assert other == entries[1]
        assert (model["name"], model["default"]) == ("a", True)
        states = [{**version, "card": None} for version in model["versions"]]
        assert states == [{**version, "card": None} for version in versions]
        return [version["card"] for version in model["versions"]]

    assert read_cards() == [card, None, card, card]
    monkeypatch.setattr("service.api.status.MAX_CARD_BYTES", 600)
    assert read_cards() == [card, None, None, None]


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
