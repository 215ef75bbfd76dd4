"""A file that breaks one rule of the contract is rejected with a sentence that says which."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import onnx
import pytest

from service.artifact import validation
from service.artifact.card import InvalidArtifact
from service.artifact.validation import read_artifact
from tests.service.artifact.spoiled import INVALID, Spoil, write_spoiled
from tests.service.quadrants_model import (
    GRID,
    LABELS,
    make_card,
    make_golden,
    make_graph,
    save,
    write_model,
)

UNFAMILIAR = {"score": "largest_logit", "threshold": 3.0}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "name" / "1" / "model.onnx"


def read_reason(path: Path) -> str:
    """Return why the file is rejected."""
    with pytest.raises(InvalidArtifact) as rejected:
        read_artifact(path)
    assert str(path) in str(rejected.value)
    return str(rejected.value)


def test_a_valid_file_is_read_with_its_card_hash_and_map_shape(path: Path) -> None:
    card = write_model(path)
    artifact, content = read_artifact(path)
    assert content == path.read_bytes()
    assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert artifact.card.labels == list(LABELS)
    del card["golden"]
    assert json.loads(artifact.public_card) == card
    assert artifact.map_shape == (GRID, GRID)


@pytest.mark.parametrize(
    ("spoil", "reason"), INVALID.items(), ids=lambda it: getattr(it, "__name__", "")
)
def test_each_rule_has_its_own_sentence(path: Path, spoil: Spoil, reason: str) -> None:
    write_spoiled(path, spoil)
    assert reason in read_reason(path)


@pytest.mark.parametrize("content", [b"", b"no model", b"\xff" * 100])
def test_a_file_that_is_no_onnx_is_rejected(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert read_reason(path)


def test_a_truncated_file_is_rejected(path: Path) -> None:
    write_model(path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "can't be read as an ONNX file" in read_reason(path)


def test_a_missing_or_unreadable_file_is_rejected(path: Path) -> None:
    assert "can't be read" in read_reason(path)
    os.makedirs(path)
    assert "expected a regular file" in read_reason(path)


def test_a_file_that_is_too_large_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(path)
    monkeypatch.setattr(validation, "MAX_FILE_BYTES", 100)
    assert "at most 100 are allowed" in read_reason(path)


def write_metadata(path: Path, *texts: str) -> None:
    """Write a valid graph with these texts as its card."""
    model = make_graph(make_card())
    for text in texts:
        model.metadata_props.append(onnx.StringStringEntryProto(key="sightglass", value=text))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ((), "no 'sightglass' card"),
        (("{}", "{}"), "no 'sightglass' card"),
        (("{",), "not valid JSON"),
        (("[" * 100_000,), "not valid JSON"),
        (("[1]",), "not a JSON object"),
        (("{}",), "has an invalid card: schema"),
    ],
)
def test_a_card_must_be_one_json_object(path: Path, texts: tuple[str, ...], reason: str) -> None:
    write_metadata(path, *texts)
    assert reason in read_reason(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": ["same", "same"]}, "'labels' must be unique"),
        ({"labels": []}, "labels"),
        ({"schema": 2}, "schema"),
        ({"task": "regression"}, "task"),
        ({"golden": []}, "golden"),
    ],
)
def test_a_card_must_be_valid(path: Path, changes: dict[str, Any], reason: str) -> None:
    write_spoiled(path, lambda _, card: card.update(changes))
    assert reason in read_reason(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"crop": None}, "'resize' and 'crop' must both be set"),
        ({"resize": 16}, "'resize' must not be smaller"),
        ({"mode": "CMYK"}, "input.mode"),
        ({"interpolation": "sinc"}, "input.interpolation"),
    ],
)
def test_the_input_of_a_card_must_be_valid(
    path: Path, changes: dict[str, Any], reason: str
) -> None:
    write_spoiled(path, lambda _, card: card["input"].update(changes))
    assert reason in read_reason(path)


def test_mean_maps_must_have_the_shape_of_the_graphs_maps(path: Path) -> None:
    known = {"count": 1, "border_share": 0.5, "mean": [[0.5] * GRID] * GRID}
    write_model(path, attention=known | {"classes": {LABELS[0]: known}})
    attention = read_artifact(path)[0].card.attention
    assert attention
    assert attention.count == 1
    wrong = known | {"mean": [[0.5] * 3] * GRID}
    write_model(path, attention=known | {"classes": {LABELS[0]: wrong}})
    assert "a mean map in its card that does not have the shape (4, 4)" in read_reason(path)


def test_a_card_without_thresholds_loads_as_the_first_ones_did(path: Path) -> None:
    assert "confidence" not in write_model(path)
    card = read_artifact(path)[0].card
    assert card.confidence is None
    assert card.outputs == ("logits", "probabilities", "cam")


def test_the_thresholds_of_a_card_are_read_and_other_figures_are_kept(path: Path) -> None:
    confidence = {"threshold": 0.7, "coverage": 0.9, "unfamiliar": UNFAMILIAR | {"auroc": 0.99}}
    write_model(path, confidence=confidence)
    artifact, _ = read_artifact(path)
    assert json.loads(artifact.public_card)["confidence"] == confidence
    assert artifact.card.confidence
    assert artifact.card.confidence.threshold == 0.7


@pytest.mark.parametrize(
    ("confidence", "reason"),
    [
        ({"threshold": 1.5}, "confidence.threshold"),
        ({"threshold": [0.5] * 4}, "must be a list for multi-label models only"),
        ({"unfamiliar": {"score": "mood", "threshold": 1}}, "confidence.unfamiliar.score"),
        ({"unfamiliar": {"score": "energy"}}, "confidence.unfamiliar.threshold"),
        ({"unfamiliar": {"score": "energy", "threshold": float("inf")}}, "finite number"),
        (
            {"unfamiliar": {"score": "familiarity", "threshold": 0}},
            "has no 'familiarity' among its inputs and outputs",
        ),
    ],
)
def test_thresholds_must_fit_the_model(path: Path, confidence: dict[str, Any], reason: str) -> None:
    golden = make_golden(make_graph(make_card()), make_card())
    write_model(path, confidence=confidence, golden=golden)
    assert reason in read_reason(path)


@pytest.mark.parametrize(
    ("threshold", "reason"), [(0.5, "must be a list"), ([0.5] * 3, "one number for each label")]
)
def test_a_multi_label_model_has_one_threshold_for_each_label(
    path: Path, threshold: float | list[float], reason: str
) -> None:
    write_model(path, task="multilabel", confidence={"threshold": threshold})
    assert reason in read_reason(path)


@pytest.mark.parametrize(
    ("shape", "reason"), [(["N"], None), (["N", 1], "of shape"), ([1], "of shape")]
)
def test_the_optional_output_must_have_one_number_for_each_row(
    path: Path, shape: list[str | int], reason: str | None
) -> None:
    card = make_card()
    model = make_graph(card)
    card["golden"] = make_golden(model, card)
    model.graph.node.append(onnx.helper.make_node("Identity", ["logits"], ["familiarity"]))
    kind = onnx.TensorProto.FLOAT
    model.graph.output.append(onnx.helper.make_tensor_value_info("familiarity", kind, shape))
    save(model, card, path)
    if reason is None:
        assert read_artifact(path)[0].card.outputs == ("logits", "probabilities", "cam")
    else:
        assert reason in read_reason(path)
