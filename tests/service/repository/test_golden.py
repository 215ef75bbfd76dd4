"""The golden tests: a model must give the answers that it gave at the export."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.validation import read_artifact
from service.repository.golden import check_outputs, decode_golden_pictures, run_golden_tests
from service.runtime.engine import Outputs
from service.runtime.session import OnnxSession
from tests.service.quadrants_model import write_model

Change = Callable[[Outputs], Outputs]


@pytest.fixture
def model(tmp_path: Path) -> tuple[Artifact, OnnxSession]:
    write_model(tmp_path / "model.onnx")
    artifact, content = read_artifact(tmp_path / "model.onnx")
    return artifact, OnnxSession(content, artifact, "cpu", 1)


def shift_probabilities(difference: float) -> Change:
    return lambda outputs: outputs._replace(probabilities=outputs.probabilities + difference)


def scale_cam(factor: float) -> Change:
    return lambda outputs: outputs._replace(cam=outputs.cam * factor)


def run_changed(artifact: Artifact, session: OnnxSession, precision: str, change: Change) -> None:
    """Run the golden tests as if the model had another precision and other outputs."""
    card = artifact.card.model_copy(update={"precision": precision})
    pictures = decode_golden_pictures(artifact)
    changed = replace(artifact, card=card)

    def run(image: NDArray[np.uint8], target: NDArray[np.int64]) -> Outputs:
        outputs = session.run(image, target)
        assert isinstance(outputs, Outputs)
        return change(outputs)

    run_golden_tests(changed, pictures, run)


@pytest.mark.parametrize(
    ("precision", "change"),
    [
        ("fp32", shift_probabilities(1e-3)),
        ("fp32", scale_cam(1.01)),
        ("fp16", shift_probabilities(1e-2)),
        ("mixed", shift_probabilities(0.03)),
        ("mixed", scale_cam(1.08)),
        ("int8", scale_cam(1.2)),
    ],
)
def test_a_difference_within_the_tolerance_of_the_precision_passes(
    model: tuple[Artifact, OnnxSession], precision: str, change: Change
) -> None:
    artifact, session = model
    run_changed(artifact, session, precision, change)


@pytest.mark.parametrize(
    ("precision", "change", "reason"),
    [
        ("fp32", shift_probabilities(1e-2), "probabilities differ by 0.01; the tolerance is 0.002"),
        ("fp32", scale_cam(1.1), "cam differs by 0.1 of its peak; the tolerance is 0.02"),
        ("fp16", shift_probabilities(0.05), "the tolerance is 0.02"),
        ("mixed", shift_probabilities(0.05), "the tolerance is 0.04"),
        ("mixed", scale_cam(1.2), "the tolerance is 0.1"),
        ("int8", scale_cam(2), "the tolerance is 0.3"),
        ("fp4", scale_cam(1), "the card's precision 'fp4' is not one of fp32, w16, fp16, int8"),
        ("fp32", shift_probabilities(float("nan")), "probabilities differ by nan"),
        ("fp32", lambda it: it._replace(logits=-it.logits), "but 'top left' at the export"),
        ("fp32", lambda it: it._replace(cam=it.cam[:, :, :1]), "answers a batch of 1 with 'cam'"),
    ],
)
def test_any_other_answer_is_rejected_with_the_difference(
    model: tuple[Artifact, OnnxSession], precision: str, change: Change, reason: str
) -> None:
    artifact, session = model
    with pytest.raises(InvalidArtifact) as rejected:
        run_changed(artifact, session, precision, change)
    assert reason in str(rejected.value)


def test_outputs_must_have_the_declared_shape_and_datatype(
    model: tuple[Artifact, OnnxSession],
) -> None:
    artifact, session = model
    outputs = session.run(*artifact.make_batch(3, 2))
    assert isinstance(outputs, Outputs)
    check_outputs(outputs, artifact, 3, 2)
    for wrong in (
        outputs._replace(logits=outputs.logits[:2]),
        outputs._replace(probabilities=outputs.probabilities.astype(np.float64)),
    ):
        with pytest.raises(InvalidArtifact, match="answers a batch of 3 with '"):
            check_outputs(wrong, artifact, 3, 2)
