"""How much work and memory an answer of `/v2` is, counted before it is written."""

from types import SimpleNamespace
from typing import cast

import numpy as np

from service.api.v2.answers import count_answer_bytes, count_values, make_outputs
from service.api.v2.outputs import Texts
from service.api.v2.schemas import InferCall, OutputParameters, WantedOutput
from service.long_answers import PIECE_VALUES
from service.repository.label_index import LabelIndex
from service.repository.model import Model
from service.runtime.row import Answer

LABELS = 1000
SCORES = np.linspace(1, 0, LABELS, dtype=np.float32)
CALL = InferCall.model_validate(
    {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [""]}]}
)
ANSWER = Answer(SCORES, SCORES, np.zeros((1, 7, 7), np.float32), 0.0, 0.0, 0.0, 1)


def want(*names: str, classes: int = 0) -> list[WantedOutput]:
    parameters = OutputParameters(classification=classes)
    return [WantedOutput(name=name, parameters=parameters) for name in names]


def test_only_the_wanted_outputs_count() -> None:
    assert count_values(want("logits"), [ANSWER] * 3) == 3 * LABELS
    assert count_values(want("logits", "cam"), [ANSWER]) == LABELS + 49


def test_classes_count_more_than_numbers_and_for_each_output() -> None:
    one = count_values(want("logits", classes=LABELS), [ANSWER])
    assert one >= 5 * LABELS
    both = want("logits", "probabilities", classes=2**31 - 1)
    assert count_values(both, [ANSWER]) == 2 * one
    assert count_values(both, [ANSWER] * 8) > PIECE_VALUES
    assert count_values(want("logits", classes=5), [ANSWER]) < 2 * LABELS


def test_classes_are_written_by_falling_value() -> None:
    labels = [f"label {index}" for index in range(LABELS)]
    answer = ANSWER._replace(logits=SCORES[::-1])
    [[name, texts, is_binary]] = make_outputs(CALL, want("logits", classes=2), [answer], labels)
    assert (name, is_binary) == ("logits", False)
    assert isinstance(texts, Texts)
    assert texts.shape == (1, 2)
    assert [*texts.pieces] == [["1.000000:999:label 999", "0.998999:998:label 998"]]


def test_the_classes_of_all_rows_are_written_in_pieces() -> None:
    count = 5000
    scores = np.linspace(1, 0, count, dtype=np.float32)
    answer = ANSWER._replace(logits=scores)
    labels = [str(index) for index in range(count)]
    [[_, texts, _]] = make_outputs(
        CALL, want("logits", classes=2**31 - 1), [answer, answer], labels
    )
    assert isinstance(texts, Texts)
    pieces = [*texts.pieces]
    assert texts.shape == (2, count)
    assert len(pieces) > 2
    assert (pieces[0][0], pieces[-1][-1]) == ("1.000000:0:0", "0.000000:4999:4999")
    assert sum(map(len, pieces)) == 2 * count


def test_the_bytes_of_an_answer_grow_with_images_labels_and_maps() -> None:
    model = make_model(LABELS)
    one = count_answer_bytes(want("logits"), [()], model, False)
    assert one >= 64 * LABELS
    assert count_answer_bytes(want("logits"), [()] * 3, model, False) == 3 * one
    assert count_answer_bytes(want("logits"), [()], model, True) < one
    texts = count_answer_bytes(want("logits", classes=2**31 - 1), [()], model, False)
    assert texts > LABELS * 3 * len("label 999")
    assert count_answer_bytes(want("logits", classes=5), [()], model, False) < one
    assert count_answer_bytes(want("cam"), [(0, 1)], model, False) >= 2 * 49 * 64


def make_model(labels: int) -> Model:
    """The parts of a model that are measured."""
    names = [f"label {index}" for index in range(labels)]
    card = SimpleNamespace(input=SimpleNamespace(width=28, height=28))
    artifact = SimpleNamespace(card=card, map_shape=(7, 7))
    index = LabelIndex(names)
    model = SimpleNamespace(artifact=artifact, labels=names, segments=False, label_index=index)
    return cast(Model, model)
