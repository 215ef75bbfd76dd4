"""From a network to a model file: compile, check, measure, describe, and store atomically."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from training.artifact.card import ModelInfo, attach_card, make_card
from training.artifact.golden import make_golden_tests
from training.artifact.parity import check_parity
from training.artifact.precision_loss import (
    EXACT_PRECISIONS,
    compare_precisions,
    describe_loss,
    extract_prediction_graph,
)
from training.data.datasets import Split
from training.errors import CheckError, UserError
from training.evaluate.explanations import DEFAULT_MAPS, measure_explanations
from training.evaluate.metrics import compute_metrics, drop_confusion_matrix, predict_split
from training.evaluate.temperature import (
    compare_calibration,
    describe_calibration,
    find_temperature,
)
from training.export.choose_layer import choose_layer
from training.gradcam.plan import Plan
from training.gradcam.reference import find_layer
from training.graph.compilation import compile_graph, compile_prediction_graph
from training.graph.quantize import reduce_precision
from training.graph.session import measure_cost, open_session, run_for_top1
from training.imaging.preprocessing import GraphRunner, Pixels
from training.networks.classifier import Classifier, compute_probabilities, find_known_layer
from training.report.explanations import format_verdict, save_explanation_plots
from training.report.model_card import write_model_page
from training.report.plots import save_report_plots

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]*")


def export_model(
    about: ModelInfo,
    model: Classifier,
    layer: str,
    samples: Pixels,  # (N, H, W, C), two at least
    tree: Path,
    test: Split | None = None,
    unmeasured: str = "",
    history: Sequence[dict[str, float]] = (),
    version: int | None = None,
    precision: str = "fp32",
    calibration: Pixels | None = None,
    validation: Split | None = None,
    measured_on: str = "the test split",
    maps: int = DEFAULT_MAPS,
    private: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Compile, check, measure, describe and store a model; returns the folder of its version.

    The checks and golden tests use `samples`. Metrics are measured on `test`, and the maps on at
    most `maps` of its pictures. `calibration` calibrates the ranges of int8. With `validation`, a
    temperature is fitted on it. If `private`, the report shows no pictures. `layer` may be "auto"
    if there is a `test`.

    Raises:
        UserError: an argument is not valid, or the network cannot be exported.
        CheckError: a check of the graph failed. No file was written.
    """
    check_arguments(about.name, precision, calibration, maps)
    multilabel = about.task == "multilabel"
    if layer == "auto":
        layer = choose_layer(model, find_known_layer(model.network), test, multilabel, say)
    temperature = 1.0
    if validation is not None:
        temperature = find_temperature(predict_split(model.predict, validation), validation.labels)
    checked_graph = compile_and_check(
        model, layer, samples, multilabel, temperature, precision, calibration, test, say
    )
    run = open_session(checked_graph.proto)
    figures, logits, probabilities, evidence = None, None, None, None
    checks, more = checked_graph.checks, {}
    if test is not None:
        logits, probabilities = predict_through_file(run, test)
        figures = compute_metrics(probabilities, test.labels, about.labels)
        if precision in EXACT_PRECISIONS:
            checks |= compare_with_torch(model, probabilities, test, multilabel, temperature)
    if test is not None and maps:
        say(f"exact and measured; trying the maps of {min(maps, len(test))} pictures")
        evidence = measure_explanations(
            run, model, checked_graph.plan, test, about.labels, measured_on, maps
        )
        say(f"{evidence.figures['seconds']} s: " + format_verdict(evidence.figures))
        checks["faithfulness"] = evidence.figures
        more["attention"] = evidence.attention
    else:
        reason = unmeasured if test is None else "--maps was 0"
        checks |= {"faithfulness": None, "faithfulness_reason": reason}
    if validation is not None:
        more["calibration"] = describe_temperature(temperature, validation, test, logits)
        say(describe_calibration(more["calibration"]))
    golden = make_golden_tests(run, samples[:32], about.input, about.labels)
    measured = drop_confusion_matrix(figures) | {"measured_on": measured_on} if figures else None
    content = make_card(
        about,
        checked_graph.plan,
        measured,
        unmeasured,
        checks,
        checked_graph.cost,
        golden,
        precision,
    )
    attach_card(checked_graph.proto, content | more)

    def fill(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(checked_graph.proto.SerializeToString())
        if test is not None and figures is not None and probabilities is not None:
            plots = folder / "report"
            save_report_plots(
                plots, about.labels, test, probabilities, figures, history, run, private
            )
            if evidence is not None:
                save_explanation_plots(plots, evidence)
        write_model_page(about.name, folder)

    return place_version(tree / about.name, version, fill)


def check_arguments(name: str, precision: str, calibration: Pixels | None, maps: int) -> None:
    """Raise UserError for arguments that are not valid, before any work is done."""
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(
            f"{name!r} is not a valid model name. Use a-z, 0-9, '.', '_' and '-', "
            "and begin with a letter or digit."
        )
    if maps < 0:
        raise UserError(f"--maps must be 0 or more, got {maps}.")
    if precision == "int8" and calibration is None:
        raise UserError(
            "int8 must be calibrated on real pictures. Give a folder of them with --pictures."
        )


@dataclass(frozen=True)
class CheckedGraph:
    """The graph to serve after its checks, with their figures and its cost."""

    proto: onnx.ModelProto
    plan: Plan
    checks: dict[str, Any]
    cost: dict[str, Any]


def compile_and_check(
    model: Classifier,
    layer: str,
    samples: Pixels,  # (N, H, W, C)
    multilabel: bool,
    temperature: float,
    precision: str,
    calibration: Pixels | None,
    test: Split | None,
    say: Callable[[str], None],
) -> CheckedGraph:
    """Compile and check in 32 bits, then lower the precision if asked and compare with 32 bits."""
    fp32_proto = None  # set if a lower precision is served
    if precision == "w16":  # compiled before the weights are rounded
        fp32_proto = compile_graph(
            model, model.network, layer, samples, multilabel, temperature=temperature
        ).proto
    compiled = compile_graph(
        model, model.network, layer, samples, multilabel, precision, temperature=temperature
    )
    proto, plan = compiled.proto, compiled.plan
    plain = compile_prediction_graph(model, samples, multilabel, temperature)
    say(f"compiled: {plan.compiler}, {len(proto.graph.node)} nodes; checking")
    checks = check_parity(proto, plain, model, find_layer(model.network, layer), samples)
    checks["alpha"] = float(f"{plan.error:.2g}")
    if precision not in EXACT_PRECISIONS:
        fp32_proto = proto
        proto = reduce_precision(
            fp32_proto, precision, samples if calibration is None else calibration
        )
        plain = extract_prediction_graph(proto)
    if fp32_proto is not None:
        checks["precision"] = compare_precisions(fp32_proto, proto, precision, test or samples)
        say(describe_loss(checks["precision"]))
    cost = measure_cost(proto, plain, samples)
    say(f"exact: cam within {checks['cam']:.1e}; explained costs {cost['ratio']:.2f} of plain")
    return CheckedGraph(proto, plan, checks, cost)


def predict_through_file(
    run: GraphRunner, test: Split
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The exported graph's logits and probabilities of every test picture, (N, K) each."""
    both = predict_split(lambda image: np.stack(run_for_top1(run, image, 0)[:2], 1), test)
    return both[:, 0], both[:, 1]  # of (N, 2, K)


def compare_with_torch(
    model: Classifier,
    probabilities: NDArray[np.float32],
    test: Split,
    multilabel: bool,
    temperature: float,
) -> dict[str, Any]:
    """Compare the graph's answers to all test pictures with torch's.

    Raises:
        CheckError: torch and the graph classify different numbers of pictures correctly.
    """
    logits = torch.from_numpy(predict_split(model.predict, test))
    expected = compute_probabilities(logits, multilabel, temperature).numpy()
    deviation = float(np.abs(expected - probabilities).max())
    changed = int((expected.argmax(1) != probabilities.argmax(1)).sum())
    figures: dict[str, Any] = {
        "test_probabilities": float(f"{deviation:.2g}"),
        "test_top1_changed": changed,
    }
    if not multilabel:
        figures["test_correct_torch"] = int((expected.argmax(1) == test.labels).sum())
        figures["test_correct_onnx"] = int((probabilities.argmax(1) == test.labels).sum())
        if figures["test_correct_torch"] != figures["test_correct_onnx"]:
            raise CheckError(
                f"torch classifies {figures['test_correct_torch']} test pictures correctly, the "
                f"exported graph {figures['test_correct_onnx']}. No file was written."
            )
    return figures


def describe_temperature(
    temperature: float, validation: Split, test: Split | None, logits: NDArray[np.float32] | None
) -> dict[str, Any]:
    """The card's `calibration`: the effect of the temperature on pictures it was not fitted on."""
    figures: dict[str, Any] = {"temperature": temperature, "fitted_on": len(validation)}
    if test is not None and logits is not None:
        figures |= {
            "measured_on": len(test),
            **compare_calibration(logits, test.labels, temperature),
        }
    return figures


def place_version(model: Path, version: int | None, fill: Callable[[Path], None]) -> Path:
    """Fill a temporary folder and rename it to the version, by default the next free one."""
    model.mkdir(parents=True, exist_ok=True)
    partial = model / f".part-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        fill(partial)
        if version is None:
            versions = [int(p.name) for p in model.iterdir() if p.name.isdigit()]
            version = max(versions, default=0) + 1
        folder = model / str(version)
        if folder.exists():
            shutil.rmtree(folder / "report", ignore_errors=True)
            os.replace(partial / "report", folder / "report")
            os.replace(partial / "model.onnx", folder / "model.onnx")
        else:
            os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
