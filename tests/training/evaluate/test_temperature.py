"""The temperature is fitted by likelihood, and changes only probabilities."""

import numpy as np
import pytest
import torch

from tests.training import blobs
from training.evaluate.temperature import compare_calibration, find_temperature
from training.graph.compilation import GraphOptions, compile_graph
from training.graph.session import open_session


def over_sure(times: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) that are `times` too large, and labels drawn from their true softmax."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    p = torch.from_numpy(logits).softmax(1).numpy()
    labels = (rng.random((len(p), 1)) > p.cumsum(1)).sum(1)
    return (times * logits).astype(np.float32), labels.clip(0, 4)


@pytest.mark.parametrize("times", [0.5, 1.0, 3.0])
def test_the_temperature_is_found(times: float) -> None:
    """It is right within a few percent, and the probabilities are then calibrated."""
    logits, labels = over_sure(times)
    temperature = find_temperature(logits, labels)
    assert temperature is not None
    assert temperature == pytest.approx(times, rel=0.05)
    told = compare_calibration(logits, labels, temperature)
    assert told["after"]["calibration_error"] < 0.02  # type: ignore[operator]
    if times != 1:
        assert told["before"]["calibration_error"] > 0.05  # type: ignore[operator]
        assert told["after"]["negative_log_likelihood"] < told["before"]["negative_log_likelihood"]  # type: ignore[operator]


@pytest.mark.parametrize("several", [False, True])
def test_no_temperature_is_fitted_where_every_answer_is_right(several: bool) -> None:
    """The likelihood would take the smallest, and every probability would be 1."""
    logits = np.array([[2, -1], [-1, 3], [0.5, -0.1]], np.float32)
    labels = np.array([0, 1, 0])
    truth = np.eye(2, dtype=np.float32)[labels] if several else labels
    assert find_temperature(logits, truth) is None
    assert find_temperature(-logits, truth) == 20


def test_multilabel_models_have_a_temperature() -> None:
    """Each label's probability is a sigmoid."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (5_000, 4))
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    temperature = find_temperature((2 * logits).astype(np.float32), labels)
    assert temperature is not None
    assert temperature == pytest.approx(2, rel=0.05)
    told = compare_calibration((2 * logits).astype(np.float32), labels, temperature)
    assert told["after"]["calibration_error"] < 0.02 < told["before"]["calibration_error"]  # type: ignore[operator]


@pytest.mark.parametrize("multilabel", [False, True])
def test_the_temperature_changes_probabilities_only(multilabel: bool) -> None:
    """Logits and maps stay equal to the bit. Probabilities are those of logits / T."""
    model, pictures = blobs.lesson().model, blobs.lesson().seen.pictures[:7]
    target = np.tile([[-1, 2]], (7, 1))
    plain, cooled = (
        open_session(
            compile_graph(
                model, model.network, blobs.LAYER, pictures, GraphOptions(multilabel, t)
            ).proto
        )(pictures, target)
        for t in (1.0, 2.5)
    )
    logits = model(torch.from_numpy(pictures)) / 2.5
    expected = logits.sigmoid() if multilabel else logits.softmax(1)
    assert np.array_equal(plain[0], cooled[0])
    assert np.array_equal(plain[2], cooled[2])
    assert np.allclose(cooled[1], expected.numpy(), atol=1e-6)
    assert not np.allclose(cooled[1], plain[1], atol=1e-2)
    assert np.array_equal(cooled[1].argmax(1), plain[1].argmax(1))
