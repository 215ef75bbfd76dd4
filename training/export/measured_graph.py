"""What an exported graph can do: metrics, maps and calibration, measured through the graph."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training.artifact.precision_loss import EXACT_PRECISIONS
from training.data.datasets import Split
from training.errors import CheckError
from training.evaluate.chance import describe_accuracy
from training.evaluate.explanations import (
    ExplanationMetrics,
    ExportedModel,
    measure_explanations,
)
from training.evaluate.metrics import Evaluation, compute_metrics, predict_split
from training.evaluate.temperature import compare_calibration, describe_calibration
from training.export.confidence import Doubts, load_others, measure_doubts
from training.export.request import ExportRequest
from training.export.served_graph import ServedGraph, TargetNetwork
from training.graph.session import open_session
from training.imaging.preprocessing import GraphRunner
from training.networks.classifier import compute_probabilities
from training.report.explanations import format_verdict


@dataclass(frozen=True)
class MeasuredGraph:
    """A graph, and what was measured through it. None: it was not measured."""

    served: ServedGraph
    run: GraphRunner
    checks: dict[str, Any]
    evaluation: Evaluation | None
    explanations: ExplanationMetrics | None
    calibration: dict[str, Any] | None
    confidence: dict[str, Any] | None = None


def measure_graph(request: ExportRequest, served: ServedGraph) -> MeasuredGraph:
    """Measure metrics and maps on the test pictures, and the effect of the temperature.

    Raises:
        CheckError: torch and the graph classify different numbers of pictures correctly.
    """
    checks, test = dict(served.checks), request.test
    evaluation, explanations, logits, confidence = None, None, None, None
    if test is not None:
        notes: list[str] = []
        doubts = measure_warnings(request, served, test, notes.append)
        confidence, served = doubts.confidence, replace(served, proto=doubts.proto)
        logits, probabilities = doubts.outputs.logits, doubts.outputs.probabilities
        figures = compute_metrics(probabilities, test.labels, request.info.labels)
        evaluation = Evaluation(request.info.labels, test, probabilities, figures)
        request.say(describe_accuracy(figures))
        for sentence in filter(None, [*notes, request.caution, *figures.get("undefined", [])]):
            request.say(sentence)
        if served.precision in EXACT_PRECISIONS:
            expected = predict_with_torch(served.network, test)
            checks |= compare_predictions(expected, probabilities, test.labels)
    run = open_session(served.proto)
    if test is not None and request.maps:
        explanations = measure_maps(request, served, run, test)
        checks["faithfulness"] = explanations.figures
    else:
        reason = request.unmeasured if test is None else "--maps was 0"
        checks |= {"faithfulness": None, "faithfulness_reason": reason}
    seconds = f"{explanations.figures['seconds']} s: " if explanations else ""
    metrics = None if evaluation is None else evaluation.figures
    request.say(seconds + format_verdict(metrics, checks["faithfulness"]))
    calibration = describe_temperature(request, served, logits)
    return MeasuredGraph(served, run, checks, evaluation, explanations, calibration, confidence)


def measure_warnings(
    request: ExportRequest, served: ServedGraph, test: Split, say: Callable[[str], None]
) -> Doubts:
    """Measure when answers should be doubted, and extend the graph if that was asked for."""
    others = load_others(request.unlike, request.info.input)
    usual = request.calibration if request.familiarity else None
    doubts = measure_doubts(served.proto, test, others, usual, say)
    caution = {"caution": request.caution} if request.caution else {}
    confidence = {**doubts.confidence, "measured_on": request.measured_on, **caution}
    return replace(doubts, confidence=confidence)


def predict_with_torch(network: TargetNetwork, test: Split) -> NDArray[np.float32]:
    """Torch's probabilities (N, K) of every test picture."""
    logits = torch.from_numpy(predict_split(network.model.predict, test))
    options = network.options
    probabilities = compute_probabilities(logits, options.multilabel, options.temperature)
    return np.asarray(probabilities)


def compare_predictions(
    expected: NDArray[np.float32],  # (N, K), torch's
    probabilities: NDArray[np.float32],  # (N, K), the graph's
    labels: NDArray[Any],
) -> dict[str, Any]:
    """Compare the graph's answers to all test pictures with torch's.

    Raises:
        CheckError: torch and the graph classify different numbers of pictures correctly.
    """
    deviation = float(np.abs(expected - probabilities).max())
    changed = int((expected.argmax(1) != probabilities.argmax(1)).sum())
    figures: dict[str, Any] = {
        "test_probabilities": float(f"{deviation:.2g}"),
        "test_top1_changed": changed,
    }
    if labels.ndim == 1:  # one class per picture
        in_torch = figures["test_correct_torch"] = int((expected.argmax(1) == labels).sum())
        in_onnx = figures["test_correct_onnx"] = int((probabilities.argmax(1) == labels).sum())
        if in_torch != in_onnx:
            raise CheckError(
                f"torch classifies {in_torch} test pictures correctly, the exported graph "
                f"{in_onnx}. No file was written."
            )
    return figures


def measure_maps(
    request: ExportRequest, served: ServedGraph, run: GraphRunner, test: Split
) -> ExplanationMetrics:
    """Measure the maps of at most `maps` test pictures."""
    count = request.maps
    request.say(f"trying the maps of {min(count, len(test))} pictures")
    exported = ExportedModel(run, served.network.model, served.plan)
    labels, measured_on = request.info.labels, request.measured_on
    return measure_explanations(exported, test, labels, measured_on, count)


def describe_temperature(
    request: ExportRequest, served: ServedGraph, logits: NDArray[np.float32] | None
) -> dict[str, Any] | None:
    """The card's `calibration`: the effect of the temperature on pictures it was not fitted on.

    None if no temperature was fitted.
    """
    if request.validation is None:
        return None
    temperature, test = served.network.options.temperature, request.test
    figures: dict[str, Any] = {"temperature": temperature, "fitted_on": len(request.validation)}
    if served.network.unfitted:
        figures["reason"] = served.network.unfitted
    elif test is not None and logits is not None and test is not request.validation:
        effect = compare_calibration(logits, test.labels, temperature)
        figures |= {"measured_on": len(test), **effect}
    request.say(describe_calibration(figures))
    return figures
