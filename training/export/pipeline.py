"""A network becomes an artefact: compiled, checked, measured, described, put in place whole."""

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
from torch import nn

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
from training.gradcam.compiler import make_explained_forward, trace_graph
from training.gradcam.plan import Plan, make_plan
from training.gradcam.reference import find_layer, prepare_network
from training.graph.export_errors import explain_export_errors
from training.graph.fuse_batchnorm import fuse_batchnorms
from training.graph.onnx_export import (
    MIN_HALF_WEIGHTS,
    export_prediction_graph,
    export_traced_graph,
    store_half_weights,
)
from training.graph.quantize import reduce_precision
from training.graph.session import measure_cost, open_session, run_for_top1
from training.imaging.preprocessing import GraphRunner, Pixels
from training.networks.classifier import Classifier, compute_probabilities, find_known_layer
from training.report.explanations import format_verdict, save_explanation_plots
from training.report.model_card import write_model_page
from training.report.plots import save_report_plots

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]*")
EXAMPLE_SIZES = (5, 2)  # N and T of the traced example: equal to no other size


@dataclass(frozen=True)
class CompiledGraph:
    """A graph with its explanation, and how alpha is had."""

    proto: onnx.ModelProto
    plan: Plan


def compile_graph(
    model: nn.Module,
    network: nn.Module,
    layer: str,
    pictures: Pixels,  # (N, H, W, C)
    multilabel: bool = False,
    precision: str = "fp32",
    alpha: bool = False,
    temperature: float = 1.0,
) -> CompiledGraph:
    """The ONNX graph of a classifier with Grad-CAM at a layer, in 32 bits, not yet checked.

    For a `precision` with fewer bits, batch-norms are folded and weights rounded as it stores them.
    """
    prepare_network(model)
    image = torch.from_numpy(np.resize(pictures, (EXAMPLE_SIZES[0], *pictures.shape[1:])))
    if precision != "fp32":
        fuse_batchnorms(model, image, find_layer(network, layer))
    if precision == "w16":
        for weight in model.parameters():
            if weight.numel() >= MIN_HALF_WEIGHTS:
                weight.copy_(weight.half())
    target = torch.arange(EXAMPLE_SIZES[0] * EXAMPLE_SIZES[1]).reshape(EXAMPLE_SIZES) % 2
    plan = make_plan(model, network, layer, image[:3])
    run = make_explained_forward(model, network, plan, multilabel, temperature)
    with explain_export_errors(layer):
        proto = export_traced_graph(trace_graph(run, image, target), image, target, alpha)
    if precision == "w16":
        store_half_weights(proto)
    return CompiledGraph(proto, plan)


def compile_prediction_graph(
    model: nn.Module,
    pictures: Pixels,
    multilabel: bool = False,
    temperature: float = 1.0,
) -> onnx.ModelProto:
    """The same classifier without its explanation: what the checks compare with."""

    def bare(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(image)
        return logits, compute_probabilities(logits, multilabel, temperature)

    image = np.resize(pictures, (EXAMPLE_SIZES[0], *pictures.shape[1:]))
    return export_prediction_graph(bare, torch.from_numpy(image))


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
    """Compile, check, measure, describe and place an artefact; returns its folder.

    `samples` are what the checks and the golden probes use; `test` is what is measured;
    `calibration` is what 8 bits are calibrated on; with `validation` a temperature is fitted on it.
    Of what is `private`, no picture goes into the report. `layer` may be "auto" where there is a
    `test`; the maps are then tried on so many of its pictures.
    """
    check_arguments(about.name, precision, calibration, maps)
    multilabel = about.task == "multilabel"
    if layer == "auto":
        layer = choose_layer(model, find_known_layer(model.network), test, multilabel, say)
    temperature = 1.0
    if validation is not None:
        temperature = find_temperature(predict_split(model.predict, validation), validation.labels)
    made = compile_and_check(
        model, layer, samples, multilabel, temperature, precision, calibration, test, say
    )
    run = open_session(made.proto)
    figures, logits, probabilities, evidence = None, None, None, None
    checks, more = made.checks, {}
    if test is not None:
        logits, probabilities = predict_through_file(run, test)
        figures = compute_metrics(probabilities, test.labels, about.labels)
        if precision in EXACT_PRECISIONS:
            checks |= compare_with_torch(model, probabilities, test, multilabel, temperature)
    if test is not None and maps:
        say(f"exact and measured; trying the maps of {min(maps, len(test))} pictures")
        evidence = measure_explanations(
            run, model, made.plan, test, about.labels, measured_on, maps
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
        about, made.plan, measured, unmeasured, checks, made.cost, golden, precision
    )
    attach_card(made.proto, content | more)

    def fill(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(made.proto.SerializeToString())
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
    """What can be told before any work is done.

    Raises:
        UserError: a name no folder should have, too few maps, 8 bits without pictures.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise UserError(f"{name!r} is no model name: a-z, 0-9, '.', '_' and '-' only.")
    if maps < 0:
        raise UserError(f"--maps is 0 or more, not {maps}.")
    if precision == "int8" and calibration is None:
        raise UserError("int8 is calibrated on real pictures: --pictures names a folder of them.")


@dataclass(frozen=True)
class CheckedGraph:
    """The graph that is served, held against torch; what was found, and what it costs."""

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
    """Compile and check in 32 bits; then with fewer, where that is asked for, against those."""
    whole = None  # in 32 bits, where what is served has fewer
    if precision == "w16":  # before the weights are rounded
        whole = compile_graph(
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
        whole = proto
        proto = reduce_precision(whole, precision, samples if calibration is None else calibration)
        plain = extract_prediction_graph(proto)
    if whole is not None:
        checks["precision"] = compare_precisions(whole, proto, precision, test or samples)
        say(describe_loss(checks["precision"]))
    cost = measure_cost(proto, plain, samples)
    say(f"exact: cam within {checks['cam']:.1e}; explained costs {cost['ratio']:.2f} of plain")
    return CheckedGraph(proto, plan, checks, cost)


def predict_through_file(
    run: GraphRunner, test: Split
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The exported file's logits and probabilities of every picture, each (N, K), by one pass."""
    both = predict_split(lambda image: np.stack(run_for_top1(run, image, 0)[:2], 1), test)
    return both[:, 0], both[:, 1]  # of (N, 2, K)


def compare_with_torch(
    model: Classifier,
    probabilities: NDArray[np.float32],
    test: Split,
    multilabel: bool,
    temperature: float,
) -> dict[str, Any]:
    """On all test pictures: torch gives the same answers as the exported file."""
    logits = torch.from_numpy(predict_split(model.predict, test))
    expected = compute_probabilities(logits, multilabel, temperature).numpy()
    apart = float(np.abs(expected - probabilities).max())
    changed = int((expected.argmax(1) != probabilities.argmax(1)).sum())
    figures: dict[str, Any] = {
        "test_probabilities": float(f"{apart:.2g}"),
        "test_top1_changed": changed,
    }
    if not multilabel:
        figures["test_correct_torch"] = int((expected.argmax(1) == test.labels).sum())
        figures["test_correct_onnx"] = int((probabilities.argmax(1) == test.labels).sum())
        if figures["test_correct_torch"] != figures["test_correct_onnx"]:
            raise CheckError(
                f"torch gets {figures['test_correct_torch']} test pictures right and the exported "
                f"file {figures['test_correct_onnx']}; nothing was written."
            )
    return figures


def describe_temperature(
    temperature: float, validation: Split, test: Split | None, logits: NDArray[np.float32] | None
) -> dict[str, Any]:
    """The card's `calibration`: what the temperature changed, on pictures it wasn't fitted on."""
    told: dict[str, Any] = {"temperature": temperature, "fitted_on": len(validation)}
    if test is not None and logits is not None:
        told |= {"measured_on": len(test), **compare_calibration(logits, test.labels, temperature)}
    return told


def place_version(model: Path, version: int | None, fill: Callable[[Path], None]) -> Path:
    """Fill a folder beside and rename it to the version, by default the next free one."""
    model.mkdir(parents=True, exist_ok=True)
    beside = model / f".part-{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    try:
        fill(beside)
        if version is None:
            taken = [int(p.name) for p in model.iterdir() if p.name.isdigit()]
            version = max(taken, default=0) + 1
        folder = model / str(version)
        if folder.exists():
            shutil.rmtree(folder / "report", ignore_errors=True)
            os.replace(beside / "report", folder / "report")
            os.replace(beside / "model.onnx", folder / "model.onnx")
        else:
            os.rename(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder
