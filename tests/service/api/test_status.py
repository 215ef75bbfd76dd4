"""The answer on attention, which is long if a model has many classes."""

import asyncio
import json
import threading
from collections.abc import Iterable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from service.api.status import StatusEndpoints, encode_attention, encode_models
from service.http.request import Request
from service.http.response import encode_json
from service.inference.admission import Admission
from service.repository.attention import Comparison, Observation, Report
from service.repository.model import ListedModel, ListedVersion, Model
from service.settings import Settings

LABELS = ['a "quoted" label', "ä", "back\\slash"]
MAPS = Observation(3, 0.25, np.array([[0.5, 1.0]]))
COMPARED = Comparison(MAPS, Observation(0, None, None), 0.5)
NOT_COMPARED = Comparison(MAPS, None, None)


class FakeAttention:
    """What the answer on attention needs of a model's sums."""

    def __init__(self, classes: Iterable[tuple[str, Comparison]]) -> None:
        self._classes = classes

    def count_answer_bytes(self) -> int:
        return 5000

    def describe(self) -> Report:
        return Report(COMPARED, iter(self._classes))


class FakeModel:
    """The same of a model."""

    name, version = "lenet5", "1"

    def __init__(self, classes: Iterable[tuple[str, Comparison]]) -> None:
        self.attention = FakeAttention(classes)


def encode(classes: Iterable[tuple[str, Comparison]]) -> Any:
    return json.loads(encode_attention(cast(Model, FakeModel(classes))))


@pytest.mark.parametrize("labels", [LABELS, []])
def test_an_answer_encoded_in_pieces_is_whole(labels: list[str]) -> None:
    maps = {"maps": 3, "border_share": 0.25, "mean": [[0.5, 1.0]]}
    none = {"maps": 0, "border_share": None, "mean": None}
    other = {"observed": maps, "reference": None, "distance": None}
    assert encode((label, NOT_COMPARED) for label in labels) == {
        "model": "lenet5",
        "version": "1",
        "observed": maps,
        "reference": none,
        "distance": 0.5,
        "classes": dict.fromkeys(labels, other),
    }


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


def test_callers_at_the_same_time_share_an_answer_that_counts_while_it_is_made() -> None:
    threads: list[threading.Thread] = []
    held: list[int] = []
    admission = Admission(Settings.model_validate({}))

    def iterate() -> Iterator[tuple[str, Comparison]]:
        threads.append(threading.current_thread())
        held.append(admission.memory.response_bytes)
        threading.Event().wait(0.01)
        yield "ä", NOT_COMPARED

    model = FakeModel(iterate())
    repository = cast(Any, SimpleNamespace(find=lambda _: model))
    request = cast(Request, SimpleNamespace(query=[], path_params={"name": "lenet5"}))

    async def run() -> list[bytes]:
        endpoints = StatusEndpoints(repository, cast(Any, None), admission, cast(Any, None))
        responses = await asyncio.gather(*(endpoints.attention(request) for _ in range(9)))
        return [bytes(response.body) for response in responses]

    assert len(set(asyncio.run(run()))) == 1
    assert held == [5000]
    assert admission.memory.response_bytes == 0
    assert threading.current_thread() not in threads
