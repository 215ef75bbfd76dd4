"""From a segmentation network to a model file: compiled, checked, measured and stored."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from training.artifact.card import Findings, attach_card, make_card
from training.artifact.mask_golden import make_mask_golden_tests
from training.artifact.mask_parity import check_mask_parity
from training.artifact.palette import make_palette
from training.errors import CheckError
from training.evaluate.explanations import ExplanationMetrics
from training.evaluate.masks.faithfulness import measure_mask_maps, run_without_maps
from training.evaluate.masks.overlap import (
    BATCH_SIZE,
    MaskEvaluation,
    describe_overlap,
    evaluate_masks,
)
from training.evaluate.metrics import drop_confusion_matrix
from training.export.masks.choose_layer import choose_mask_options
from training.export.masks.request import MaskExportRequest, check_mask_request
from training.export.version_folder import place_version
from training.graph.mask_graph import MaskGraph, MaskOptions, compile_mask_graph
from training.graph.session import MaskRunner, measure_mask_cost, open_mask_session
from training.imaging.preprocessing import Pixels
from training.report.explanations import format_verdict, save_explanation_plots
from training.report.masks import save_mask_plots
from training.report.model_card import write_model_page

MIOU_TOLERANCE = 1e-5  # between torch and the file: rounding moves single pixels
MAX_CHANGED = 1e-3  # share of the pixels that may have another class with weights of 16 bits


@dataclass(frozen=True)
class MeasuredMasks:
    """A graph of masks, and what was measured through it. None: it was not measured."""

    graph: MaskGraph
    run: MaskRunner
    checks: dict[str, Any]
    cost: dict[str, float]
    evaluation: MaskEvaluation | None
    maps: ExplanationMetrics | None


def export_masks(request: MaskExportRequest) -> Path:
    """Compile, check, measure, describe and store a model; returns the folder of its version.

    Raises:
        UserError: the request is not valid, or the network cannot be exported.
        CheckError: a check of the graph failed. No file was written.
    """
    check_mask_request(request)
    options = choose_mask_options(request)
    full = None
    if options.precision == "w16":  # compiled before the weights are rounded
        wide = MaskOptions(options.layer, options.method, options.background)
        full = compile_mask_graph(request.model, request.samples, wide)
    graph = compile_mask_graph(request.model, request.samples, options)
    request.say(f"compiled: {len(graph.proto.graph.node)} nodes; checking")
    checks = check_mask_parity(graph.proto, graph.plain, request.model, graph.plan, request.samples)
    run = open_mask_session(graph.proto)
    if full is not None:
        before = open_mask_session(full.proto)
        checks["precision"] = compare_masks(before, run, request)
    cost = measure_mask_cost(graph.proto, graph.plain, request.samples)
    request.say(
        f"exact: cam within {checks['cam']:.1e}; with one target it costs {cost['ratio']:.2f} of "
        f"plain, with none {cost['without_targets']:.2f}"
    )
    return write_masks(request, measure_masks(request, graph, checks, cost))


def compare_masks(
    before: MaskRunner, after: MaskRunner, request: MaskExportRequest
) -> dict[str, Any]:
    """What rounding the weights changes, in the form of the card's `checks.precision`.

    Raises:
        CheckError: it changes too many pixels.
    """
    pictures = request.samples if request.test is None else request.test.pictures
    starts = range(0, len(pictures), BATCH_SIZE)
    masks = [
        np.concatenate([predict_masks(run, pictures[i : i + BATCH_SIZE]) for i in starts])
        for run in (before, after)
    ]
    changed = float((masks[0] != masks[1]).mean())
    if changed > MAX_CHANGED:
        raise CheckError(
            f"With weights of 16 bits {changed:.2%} of the pixels have another class, "
            f"{MAX_CHANGED:.1%} are allowed. No file was written. Export with --precision fp32."
        )
    return {
        "precision": request.precision,
        "pictures": len(pictures),
        "pixels_changed": float(f"{changed:.2g}"),
    }


def predict_masks(run: MaskRunner, pictures: Pixels) -> Pixels:
    """The masks (N, H, W) of pictures."""
    return np.asarray(run_without_maps(run, np.asarray(pictures))[0])


def measure_masks(
    request: MaskExportRequest, graph: MaskGraph, checks: dict[str, Any], cost: dict[str, float]
) -> MeasuredMasks:
    """Measure masks and maps on the test pictures.

    Raises:
        CheckError: torch and the graph have another mIoU.
    """
    checks, run, test = dict(checks), open_mask_session(graph.proto), request.test
    evaluation, maps = None, None
    if test is not None:
        labels, spec = request.info.labels, request.info.input
        evaluation = evaluate_masks(lambda p: predict_masks(run, p), test, labels, spec)
        request.say(describe_overlap(evaluation.figures, labels))
        checks |= compare_miou(request, evaluation)
    if test is not None and request.maps:
        request.say(f"trying the maps of {min(request.maps, len(test))} pictures")
        maps = measure_mask_maps(
            run, request.model, graph.plan, test, labels, request.measured_on, request.maps
        )
        checks["faithfulness"] = maps.figures
    else:
        reason = request.unmeasured if test is None else "--maps was 0"
        checks |= {"faithfulness": None, "faithfulness_reason": reason}
    metrics = None if evaluation is None else evaluation.figures
    request.say(format_verdict(metrics, checks["faithfulness"]))
    return MeasuredMasks(graph, run, checks, cost, evaluation, maps)


def compare_miou(request: MaskExportRequest, evaluation: MaskEvaluation) -> dict[str, Any]:
    """Compare the file's mIoU on the test pictures with torch's.

    Raises:
        CheckError: they differ.
    """

    def predict(pictures: Pixels) -> Pixels:
        return np.asarray(request.model.predict(pictures).argmax(1), np.uint8)

    in_torch = evaluate_masks(
        predict, evaluation.split, evaluation.labels, request.info.input
    ).figures["miou"]
    in_onnx = evaluation.figures["miou"]
    if abs(in_torch - in_onnx) > MIOU_TOLERANCE:
        raise CheckError(
            f"torch's masks of the test pictures have a mIoU of {in_torch}, those of the exported "
            f"graph {in_onnx}. No file was written."
        )
    return {"test_miou_torch": in_torch, "test_miou_onnx": in_onnx}


def write_masks(request: MaskExportRequest, measured: MeasuredMasks) -> Path:
    """Attach the card to the graph, and write the file and its report; returns the folder."""
    proto = measured.graph.proto
    card = describe_masks(request, measured)

    def fill(folder: Path, version: int) -> None:
        attach_card(proto, card, version)
        (folder / "model.onnx").write_bytes(proto.SerializeToString())
        if measured.evaluation is not None:
            save_mask_plots(
                folder / "report",
                measured.evaluation,
                request.history,
                measured.run,
                request.private,
            )
        if measured.maps is not None:
            save_explanation_plots(folder / "report", measured.maps)
        write_model_page(request.info.name, folder)

    return place_version(request.repository / request.info.name, request.version, fill)


def describe_masks(request: MaskExportRequest, measured: MeasuredMasks) -> dict[str, Any]:
    """The card of the graph, with golden tests from the samples."""
    info, metrics = request.info, None
    if measured.evaluation is not None:
        metrics = drop_confusion_matrix(measured.evaluation.figures)
        metrics |= {"measured_on": request.measured_on}
        metrics |= {"caution": request.caution} if request.caution else {}
    findings = Findings(
        checks=measured.checks,
        cost=measured.cost,
        golden=make_mask_golden_tests(measured.run, request.samples[:32], info.input, info.labels),
        metrics=metrics,
        unmeasured=request.unmeasured,
        attention=None if measured.maps is None else measured.maps.attention,
    )
    card = make_card(info, measured.graph.plan, request.precision, findings)
    palette = {"palette": make_palette(info.labels), "background": request.background}
    at = [*card].index("labels") + 1
    entries = [*card.items()]
    return dict([*entries[:at], *palette.items(), *entries[at:]])
