"""`annotate` writes another card. The weights and the graph's other outputs stay."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.server import ROOT
from training.artifact.card import attach_card, describe_card
from training.artifact.introduction import IntroductionRequest
from training.errors import UserError
from training.export.annotate import AnnotateRequest, annotate_model
from training.export.confidence import load_others
from training.graph.compilation import CompiledGraph
from training.graph.session import open_session, run_for_top1
from training.imaging.preprocessing import Input
from training.imaging.synthetic import generate_images

LABELS = tuple("0123456789")
INPUT = {
    "mode": "L", "height": 28, "width": 28, "resize": 28,
    "crop": "center", "interpolation": "bilinear",
}  # fmt: skip


def quietly(_: str) -> None:
    """Report no progress."""


def read_card(file: Path) -> dict[str, Any]:
    return dict(json.loads(onnx.load(file).metadata_props[0].value))


@pytest.fixture
def file(compiled: CompiledGraph, tmp_path: Path) -> Path:
    """A model file whose card names no data set."""
    card = {
        "labels": LABELS, "input": INPUT, "task": "multiclass", "training": {"origin": "a test"},
        "gradcam": {"layer": "features.act2", "method": "gradcam", "compiler": "backward"},
        "architecture": "lenet5", "license": "none", "created": "2026-01-01T00:00:00",
        "tools": {}, "checks": {},
        "metrics": None, "golden": [{"cam": np.zeros((10, 10)).tolist()}], "own": "kept",
    }  # fmt: skip
    attach_card(compiled.proto, card, 1)
    path = tmp_path / "models" / "digits" / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    path.write_bytes(compiled.proto.SerializeToString())
    return path


@pytest.fixture
def pictures(compiled: CompiledGraph, tmp_path: Path) -> Path:
    """240 scenes in folders of labels: a third of them has another label than the network's."""
    scenes = generate_images(240, 28, 28, 1, seed=5)
    answers = run_for_top1(open_session(compiled.proto), scenes, 0)[0].argmax(1)
    folder = tmp_path / "pictures"
    for i, (scene, answer) in enumerate(zip(scenes, answers, strict=True)):
        label = (answer + (i % 3 == 0)) % 10
        path = folder / str(label) / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene[..., 0]).save(path)
    return folder


def test_the_next_version_has_the_same_graph_and_a_card_with_thresholds(
    file: Path, pictures: Path
) -> None:
    folder = annotate_model(AnnotateRequest(file, pictures, "scenes", say=quietly))
    assert folder == file.parents[1] / "2"
    card, before = read_card(folder / "model.onnx"), read_card(file)
    graphs = [onnx.load(path).graph for path in (file, folder / "model.onnx")]
    assert graphs[0].SerializeToString() == graphs[1].SerializeToString()
    confidence = card.pop("confidence")
    assert card.pop("annotated")
    assert card == before
    assert confidence["measured_on"] == "scenes"
    assert confidence["pictures"] == 240
    assert confidence["mistakes"] == 80
    assert confidence["unfamiliar"]["false_alarms"] <= 0.015
    assert confidence["unfamiliar"]["others"].keys() == {"generated pictures"}
    page = (folder / "report" / "README.md").read_text()
    assert "called unfamiliar" in page


def test_features_are_learned_from_every_other_picture_and_change_no_other_output(
    file: Path, pictures: Path, tmp_path: Path
) -> None:
    white = tmp_path / "white"
    white.mkdir()
    for level in range(5):
        Image.new("L", (28, 28), 250 + level).save(white / f"{level}.png")
    request = AnnotateRequest(
        file, pictures, unlike=[str(white)], familiarity=True, version=7, say=quietly
    )
    folder = annotate_model(request)
    assert folder.name == "7"
    confidence = read_card(folder / "model.onnx")["confidence"]
    assert confidence["pictures"] == 120
    assert confidence["unfamiliar"]["others"].keys() == {"white"}
    own = generate_images(4, 28, 28, 1)
    answers = [
        run_for_top1(open_session(onnx.load(path)), own, 1)
        for path in (file, folder / "model.onnx")
    ]
    assert all(np.array_equal(one, other) for one, other in zip(*answers, strict=True))


def test_texts_for_people_are_written_without_measuring_anything(file: Path) -> None:
    introduction = IntroductionRequest("Digits", "Reads digits.")
    folder = annotate_model(AnnotateRequest(file, introduction=introduction, say=quietly))
    before, after = read_card(file), read_card(folder / "model.onnx")
    assert after.pop("annotated")
    assert after == {**before, "title": "Digits", "summary": "Reads digits."}


def test_the_files_own_fields_say_what_it_is(file: Path) -> None:
    """Tools that know nothing of the card show them."""
    introduction = IntroductionRequest("Digits", "Reads digits.")
    folder = annotate_model(AnnotateRequest(file, introduction=introduction, say=quietly))
    written = onnx.load(folder / "model.onnx")
    assert (written.domain, written.model_version) == ("sightglass", 2)
    assert written.doc_string == (
        "Digits. Reads digits. A multiclass model, lenet5, with 10 labels: 0, 1, 2, 3, 4, 5, 6, 7, "
        "8, 9. Its output `cam` explains the layer features.act2 by gradcam. License: none. "
        "The metadata entry `sightglass` has the card as JSON."
    )


def test_own_fields_are_filled_in_the_file_itself_and_nothing_else_changes(file: Path) -> None:
    """A file from before they were written gets them with its card and version as they are."""
    filled = file.read_bytes()
    proto = onnx.load_from_string(filled)
    proto.ClearField("domain"), proto.ClearField("model_version"), proto.ClearField("doc_string")
    assert len(proto.SerializeToString()) < len(filled)
    file.write_bytes(proto.SerializeToString())
    for _ in range(2):
        assert annotate_model(AnnotateRequest(file, own_fields=True, say=quietly)) == file.parent
        assert file.read_bytes() == filled
    assert sorted(path.name for path in file.parents[1].iterdir()) == ["1"]
    digest = hashlib.sha256(filled).hexdigest()
    assert digest in (file.parent / "report" / "README.md").read_text()


@pytest.mark.parametrize("other", [{"version": 2}, {"unlike": ["photos"]}, {"familiarity": True}])
def test_own_fields_come_with_no_other_change(file: Path, other: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--own-fields changes nothing else"):
        annotate_model(AnnotateRequest(file, own_fields=True, say=quietly, **other))


def test_own_fields_need_a_versions_folder(file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model.onnx"
    copy.write_bytes(file.read_bytes())
    with pytest.raises(UserError, match=r"is not a model file <name>/<version>/model\.onnx"):
        annotate_model(AnnotateRequest(copy, own_fields=True, say=quietly))


def test_all_bundled_files_say_what_they_are() -> None:
    for path in (ROOT / "models").glob("*/*/model.onnx"):
        proto = onnx.load(path)
        assert (proto.domain, proto.model_version) == ("sightglass", int(path.parent.name))
        assert proto.doc_string == describe_card(read_card(path))


def test_writing_a_file_again_changes_no_byte(file: Path) -> None:
    content = file.read_bytes()
    proto = onnx.load_from_string(content)
    attach_card(proto, read_card(file), 1)
    assert proto.SerializeToString() == content


def test_a_description_names_ten_labels_at_most() -> None:
    labels = [f"kind {i}" for i in range(1000)]
    found = describe_card(
        {
            "labels": labels, "task": "multiclass", "architecture": "net", "license": "MIT",
            "gradcam": {"layer": "a", "method": "hirescam"},
        }
    )  # fmt: skip
    assert "with 1000 labels: kind 0, " in found
    assert "kind 9, …. Its output" in found


def test_a_model_of_masks_has_no_thresholds() -> None:
    """The sentence says what can be written."""
    request = AnnotateRequest(ROOT / "models" / "nuclei" / "1" / "model.onnx", say=quietly)
    with pytest.raises(UserError, match="whose answers have no warnings"):
        annotate_model(request)


def test_a_card_without_a_data_set_needs_pictures(file: Path) -> None:
    with pytest.raises(UserError, match="with --pictures"):
        annotate_model(AnnotateRequest(file, say=quietly))


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.onnx cannot be read"):
        annotate_model(AnnotateRequest(tmp_path / "missing.onnx", say=quietly))


def test_a_folder_without_pictures_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no pictures"):
        load_others([str(tmp_path)], Input("L", 28, 28, 28, mean=(0.0,), std=(1.0,)))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_that_are_no_text_get_into_no_card(file: Path, tmp_path: Path) -> None:
    examples = tmp_path / os.fsdecode(b"examples\xff")
    examples.mkdir()
    Image.new("L", (28, 28)).save(examples / "0.png")
    (examples / "0.png").rename(examples / os.fsdecode(b"a\xff.png"))
    request = AnnotateRequest(
        file, say=quietly, introduction=IntroductionRequest("Digits \udcff", examples=examples)
    )
    card = read_card(annotate_model(request) / "model.onnx")
    assert (card["title"], card["examples"][0]["title"]) == ("Digits ?", "a?")
    with (examples / "b.png").open("wb") as large:
        large.write(b"\x89PNG\r\n\x1a\n")
        large.truncate(300 << 30)
    with pytest.raises(UserError, match="have more than 200000 bytes"):
        annotate_model(request)
