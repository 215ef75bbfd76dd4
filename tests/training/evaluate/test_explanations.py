"""An export measures its own maps. Card, page and terminal show the result."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tests.training import blobs
from training.artifact.card import ModelInfo
from training.data.datasets import Split
from training.errors import UserError
from training.evaluate.explanations import (
    MAX_INCOMPLETENESS,
    measure_incompleteness,
    run_pointing_game,
)
from training.export.choose_layer import choose_layer_and_method
from training.export.pipeline import export_model
from training.export.request import ExportRequest
from training.gradcam.plan import make_plan
from training.gradcam.reference import METHODS, compute_gradcam
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier
from training.report.model_card import render_model_page

ABOUT = ModelInfo("stripes", "a test's", blobs.LABELS, blobs.INPUT, "multiclass", "CC0", {})


def exported(folder: Path, **options: Any) -> dict[str, Any]:
    """The card of the exported test network."""
    lesson = blobs.lesson()
    given: dict[str, Any] = {"test": blobs.draw(64, 3), "maps": 24, **options}
    samples = lesson.seen.pictures[:8]
    request = ExportRequest(ABOUT, lesson.model, blobs.LAYER, samples, folder, **given)
    place = export_model(request)
    [entry] = onnx.load(place / "model.onnx").metadata_props
    found: dict[str, Any] = json.loads(entry.value)
    return found


@pytest.mark.slow
def test_the_card_has_the_explanation_metrics(tmp_path: Path) -> None:
    """It has figures, doubts, mean maps and the calibration. Plots and page are in the report."""
    said: list[str] = []
    validation = blobs.draw(64, 4)
    validation.labels[0] = (validation.labels[0] + 1) % 4  # one mistake, so a temperature is best
    found = exported(tmp_path, validation=validation, say=said.append)
    figures = found["checks"]["faithfulness"]
    assert figures["measured_on"] == "24 pictures of the test split (64)"
    assert figures["pictures"] == 24
    assert figures["score"] > 0.1
    assert figures["completeness"] < 1e-5
    assert figures["randomisation"]["steps"][-1]["rank"] < 0.5
    assert figures["pointing"]["mosaics"] == 50
    assert any(f"{figures['seconds']} s: " in line for line in said)
    attention = found["attention"]
    assert attention["maps"] == 64
    assert np.shape(attention["mean"]) == (12, 12)
    assert set(attention["classes"]) == set(blobs.LABELS)
    assert len(json.dumps(found)) < 40_000
    calibration = found["calibration"]
    assert calibration["fitted_on"] == calibration["measured_on"] == 64
    assert {"calibration_error", "negative_log_likelihood"} == calibration["after"].keys()
    report = tmp_path / "stripes" / "1" / "report"
    page = (report / "README.md").read_text()
    assert f"| insertion less deletion | {figures['score']:.3f} |" in page.replace("**", "")
    for plot in ("faithfulness.png", "randomisation.png"):
        assert (report / plot).exists()
        assert f"({plot})" in page
    assert page == render_model_page("stripes", report.parent)


@pytest.mark.slow
def test_a_temperature_that_cannot_be_fitted_is_left_out(tmp_path: Path) -> None:
    """The card has the reason, and what was measured on the fitting pictures has no comparison."""
    lesson = blobs.lesson()
    right = lesson.seen.select(np.flatnonzero(lesson.answers == lesson.seen.labels))
    said: list[str] = []
    found = exported(tmp_path, validation=right, maps=0, say=said.append)
    assert found["calibration"] == {
        "temperature": 1.0,
        "fitted_on": len(right),
        "reason": "every answer is right, so the likelihood has no maximum",
    }
    assert any("no temperature was fitted on" in line for line in said)
    assert "No check of its accuracy raised a doubt. Not measured: its maps." in said


def test_without_pictures_the_card_says_why(tmp_path: Path) -> None:
    """The page says it too."""
    said: list[str] = []
    found = exported(tmp_path, test=None, unmeasured="there were no pictures", say=said.append)
    assert said[-1] == "Not measured: its accuracy and its maps."
    assert found["checks"]["faithfulness"] is None
    assert found["checks"]["faithfulness_reason"] == "there were no pictures"
    assert "attention" not in found
    page = (tmp_path / "stripes" / "1" / "report" / "README.md").read_text()
    assert "Whether its maps can be believed was not measured: there were no pictures." in page


def test_the_map_shows_a_learned_shortcut() -> None:
    """A network learns a stamp in the corner. It is right, and its heat lies in that corner."""
    model = blobs.teach(blobs.stamped(blobs.draw(384)))
    test = blobs.stamped(blobs.draw(48, 1))
    answers, cams = blobs.explained(model, test.pictures)
    assert (answers == test.labels).mean() > 0.9
    corner = np.maximum(cams, 0)[:, :3, :3].sum((1, 2)) / np.maximum(cams, 0).sum((1, 2))
    assert corner.mean() > 0.5
    assert blobs.explained(blobs.lesson().model, test.pictures)[1][:, :3, :3].mean() < cams.mean()


def test_a_map_that_does_not_sum_to_the_logit_is_found() -> None:
    """Completeness is measured only where an average and a linear layer follow the map."""
    lesson = blobs.lesson()
    image = torch.tensor(lesson.seen.pictures[:3])
    found = make_plan(lesson.model, lesson.model.network, blobs.LAYER, image)
    logits = lesson.model(torch.tensor(lesson.seen.pictures)).numpy()
    right, wrong = (
        measure_incompleteness(lesson.model, found, lesson.seen, logits, cams)
        for cams in (lesson.cams, 1.1 * lesson.cams)
    )
    assert right is not None
    assert wrong is not None
    assert right < 1e-5 < MAX_INCOMPLETENESS < wrong
    earlier = make_plan(lesson.model, lesson.model.network, "features.1", image)
    assert measure_incompleteness(lesson.model, earlier, lesson.seen, logits, lesson.cams) is None


def test_a_map_by_hirescam_sums_to_the_logit_without_an_average(
    small: Callable[[nn.Module], Classifier], colors: Pixels
) -> None:
    """For Grad-CAM, a linear layer of all positions has no such sum."""
    model = small(nn.Sequential(nn.Flatten(), nn.Linear(6 * 256, 5)))
    image, top = torch.from_numpy(colors), torch.full((len(colors), 1), -1)
    split = Split(colors, np.zeros(len(colors), np.int64))
    gaps = []
    for method in METHODS:
        plan = make_plan(model, model.network, "features", image[:3], method)
        layer = model.network.get_submodule("features")
        found = compute_gradcam(model, image, top, layer, method)
        logits, cams = found.logits.numpy(), found.cam[:, 0].numpy()
        gaps.append(measure_incompleteness(model, plan, split, logits, cams))
    assert gaps[0] is None
    assert gaps[1] is not None
    assert gaps[1] < 1e-5


def test_logits_without_evidence_have_no_completeness() -> None:
    """If every logit is its bias there is nothing to compare: no division by zero."""
    lesson = blobs.lesson()
    image = torch.tensor(lesson.seen.pictures[:3])
    found = make_plan(lesson.model, lesson.model.network, blobs.LAYER, image)
    bias = lesson.model.network.get_submodule("fc").bias
    assert isinstance(bias, torch.Tensor)
    logits = np.tile(bias.detach().numpy(), (len(lesson.seen), 1))
    cams = np.zeros_like(lesson.cams)
    assert measure_incompleteness(lesson.model, found, lesson.seen, logits, cams) is None


def test_multilabel_models_have_no_pointing_game() -> None:
    """The place of each label in a picture is not known."""
    some = blobs.draw(8)
    several = Split(some.pictures, np.eye(4, dtype=np.float32)[some.labels])
    found, reason = run_pointing_game(blobs.lesson().run, several, some.labels, (12, 12), 0)
    assert found is None
    assert "several labels" in reason


def test_the_most_faithful_layer_is_chosen() -> None:
    """The table shows each candidate. The chosen one is within one error of the best."""
    said: list[str] = []
    taken = choose_layer_and_method(ask(said, test=blobs.draw(24, 3), method="auto"), 24)
    assert len([line for line in said if "(taken)" in line]) == 1
    scores = {tuple(line.split()[:2]): float(line.split("%")[1].split("±")[0]) for line in said[1:]}
    assert list(scores) == [
        *(("features.1", "gradcam"), ("features.1", "hirescam")),
        ("features", "gradcam"),  # HiResCAM is the same map there
    ]
    assert scores[taken] >= max(scores.values()) - 0.05


def test_only_what_is_left_open_is_chosen() -> None:
    """The layer may be named and the method not, and the reverse."""
    said: list[str] = []
    test = blobs.draw(4, 3)
    layer, _ = choose_layer_and_method(ask(said, layer="features.1", method="auto", test=test), 4)
    assert layer == "features.1"
    assert [line.split()[:2] for line in said[1:]] == [
        ["features.1", "gradcam"],
        ["features.1", "hirescam"],
    ]
    said.clear()
    choose_layer_and_method(ask(said, method="gradcam", test=test), 4)
    assert {line.split()[1] for line in said[1:]} == {"gradcam"}
    given = ask(said, layer="features", method="hirescam")
    assert choose_layer_and_method(given) == ("features", "hirescam")


def test_a_choice_needs_pictures() -> None:
    """Without pictures, or with only one, the choice is rejected."""
    with pytest.raises(UserError, match="--layer auto compares maps on two pictures at least"):
        choose_layer_and_method(ask([], test=blobs.draw(1)))
    with pytest.raises(UserError, match=r"--layer auto needs labelled.* with --pictures"):
        choose_layer_and_method(ask([]))
    with pytest.raises(UserError, match="--layer auto and --method auto need labelled"):
        choose_layer_and_method(ask([], method="auto"))


def ask(said: list[str], **options: Any) -> ExportRequest:
    """A request for the taught network whose layer is to be chosen."""
    lesson = blobs.lesson()
    given: dict[str, Any] = {"layer": "auto", "say": said.append, **options}
    samples = lesson.seen.pictures[:8]
    return ExportRequest(ABOUT, lesson.model, samples=samples, repository=Path("nowhere"), **given)
