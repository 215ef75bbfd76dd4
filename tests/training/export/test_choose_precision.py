"""`--precision auto` writes the fastest file within bounds, and says what it tried."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.export.test_pipeline import about, read
from training.data.datasets import Dataset, Split
from training.errors import UserError
from training.evaluate import precision_search
from training.export.pipeline import export_model
from training.export.request import MIN_HELD_OUT, ExportRequest
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier


@pytest.fixture
def request_auto(
    lenet: Classifier, grays: Pixels, strokes: Dataset, tmp_path: Path
) -> ExportRequest:
    """A request with as many held-out pictures as there must be."""
    train, val = strokes.splits["train"], strokes.splits["val"]
    pictures = np.concatenate([train.pictures, val.pictures])[:MIN_HELD_OUT]
    return ExportRequest(
        about(lenet),
        lenet,
        "features.act2",
        grays,
        tmp_path / "tree",
        test=Split(pictures, np.concatenate([train.labels, val.labels])[:MIN_HELD_OUT]),
        precision="auto",
        calibration=strokes.splits["test"].pictures,
        maps=0,
        say=lambda _: None,
    )


@pytest.fixture(autouse=True)
def fixed_verdict(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The bounds that each graph misses. All are twice as fast, and not tried in OpenVINO."""
    missed: list[str] = []
    monkeypatch.setattr(precision_search, "measure_latencies", lambda *_: [2.0, 1.0])
    monkeypatch.setattr(precision_search, "find_missed_bounds", lambda _: list(missed))
    monkeypatch.setattr(precision_search, "has_openvino", lambda: False)
    monkeypatch.setattr(precision_search, "has_vnni", lambda: True)
    return missed


def test_the_card_and_the_report_say_what_was_tried(
    request_auto: ExportRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And on which engine, and what the file needs."""
    verdicts = [["accuracy"]] * 4 + [[]]
    monkeypatch.setattr(
        precision_search,
        "find_missed_bounds",
        lambda _: verdicts.pop(0) if len(verdicts) > 1 else verdicts[0],
    )
    folder = export_model(request_auto)
    _, card = read(folder)
    figures = card["checks"]["precision"]
    assert card["precision"] == figures["precision"] == "mixed"
    assert (card["engines"], card["requires"]) == (["onnxruntime"], ["vnni"])
    assert figures["candidate"] == figures["tried"][-1]["candidate"]
    assert "8-bit weights" in figures["candidate"]
    assert "block" in figures["candidate"]
    assert [row["missed"] for row in figures["tried"]] == [["accuracy"]] * 4 + [[]]
    assert figures["engines"] == {"onnxruntime": []}
    assert (figures["pictures"], figures["missed"]) == (MIN_HELD_OUT, [])
    page = (folder / "report" / "README.md").read_text()
    assert "`--precision auto` tried:" in page
    for row in figures["tried"]:
        assert f"| {row['candidate']} | 2.00 | 100 |" in page


@pytest.mark.slow
def test_all_in_8_bits_is_called_int8_and_needs_nothing(request_auto: ExportRequest) -> None:
    _, card = read(export_model(request_auto))
    assert (card["precision"], card["engines"]) == ("int8", ["onnxruntime"])
    assert "requires" not in card
    assert len(card["checks"]["precision"]["tried"]) == 2


@pytest.mark.slow
def test_without_a_graph_within_bounds_the_weights_are_stored_in_16_bits(
    request_auto: ExportRequest, fixed_verdict: list[str]
) -> None:
    """The table of what was tried stays. The file agrees with torch, as each such file does."""
    fixed_verdict.append("least cosine")
    _, card = read(export_model(request_auto))
    figures = card["checks"]["precision"]
    assert card["precision"] == figures["precision"] == "w16"
    assert {tuple(row["missed"]) for row in figures["tried"]} == {("least cosine",)}
    assert card["checks"]["test_correct_torch"] == card["checks"]["test_correct_onnx"]
    assert not {"engines", "requires"} & set(card)


@pytest.mark.parametrize("count", [None, MIN_HELD_OUT - 1])
def test_too_few_held_out_pictures_are_rejected_at_once(
    request_auto: ExportRequest, count: int | None
) -> None:
    assert request_auto.test is not None
    test = None if count is None else request_auto.test.select(np.arange(count))
    with pytest.raises(
        UserError, match=f"at least {MIN_HELD_OUT} held-out .* there are {count or 0}"
    ):
        export_model(replace(request_auto, test=test))
