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

from training.artifact import card as cards
from training.artifact import golden as goldens
from training.artifact import parity as verify
from training.artifact import precision_loss as bits
from training.data.datasets import Split
from training.errors import UserError
from training.evaluate import explanations as evidences
from training.evaluate import metrics as measure
from training.evaluate import temperature as calibrate
from training.export import choose_layer as choose
from training.gradcam import compiler
from training.gradcam import plan as plans
from training.gradcam import reference as gradcam
from training.graph import export_errors as refusals
from training.graph import fuse_batchnorm as fold
from training.graph import onnx_export as graph
from training.graph import quantize as lower
from training.imaging.preprocessing import Pixels, Run
from training.networks import classifier as models
from training.networks.classifier import Classifier
from training.report import explanations as evidence_page
from training.report import model_card as modelcard
from training.report import plots as report

NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
EXAMPLE = (5, 2)  # N and T of the traced example: equal to no other size


@dataclass(frozen=True)
class Compiled:
    """A graph with its explanation, and how alpha is had."""

    proto: onnx.ModelProto
    plan: plans.Plan


def compile_graph(
    model: nn.Module,
    network: nn.Module,
    layer: str,
    pictures: Pixels,  # (N, H, W, C)
    multilabel: bool = False,
    precision: str = "fp32",
    alpha: bool = False,
    temperature: float = 1.0,
) -> Compiled:
    """The ONNX graph of a classifier with Grad-CAM at a layer, in 32 bits, not yet checked.

    For a `precision` with fewer bits, batch-norms are folded and weights rounded as it stores them.
    """
    gradcam.prepare(model)
    image = torch.from_numpy(np.resize(pictures, (EXAMPLE[0], *pictures.shape[1:])))
    if precision != "fp32":
        fold.fold(model, image, gradcam.find(network, layer))
    if precision == "w16":
        for weight in model.parameters():
            if weight.numel() >= graph.LARGE:
                weight.copy_(weight.half())
    target = torch.arange(EXAMPLE[0] * EXAMPLE[1]).reshape(EXAMPLE) % 2
    plan = plans.make(model, network, layer, image[:3])
    run = compiler.explained(model, network, plan, multilabel, temperature)
    with refusals.told(layer):
        proto = graph.translate(compiler.trace(run, image, target), image, target, alpha)
    if precision == "w16":
        graph.halved(proto)
    return Compiled(proto, plan)


def plain_graph(
    model: nn.Module,
    pictures: Pixels,
    multilabel: bool = False,
    temperature: float = 1.0,
) -> onnx.ModelProto:
    """The same classifier without its explanation: what the checks compare with."""

    def bare(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(image)
        return logits, calibrate.probabilities(logits, multilabel, temperature)

    image = np.resize(pictures, (EXAMPLE[0], *pictures.shape[1:]))
    return graph.plain(bare, torch.from_numpy(image))


def export(
    about: cards.Model,
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
    maps: int = evidences.MAPS,
    private: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Compile, check, measure, describe and place an artefact; returns its folder.

    `samples` are what the checks and the golden probes use; `test` is what is measured;
    `calibration` is what 8 bits are calibrated on; with `validation` a temperature is fitted on it.
    Of what is `private`, no picture goes into the report. `layer` may be "auto" where there is a
    `test`; the maps are then tried on so many of its pictures.
    """
    refuse(about.name, precision, calibration, maps)
    multilabel = about.task == "multilabel"
    if layer == "auto":
        layer = choose.choose(model, models.own_layer(model.network), test, multilabel, say)
    temperature = 1.0
    if validation is not None:
        temperature = calibrate.fit(measure.predict(model.predict, validation), validation.labels)
    made = checked(
        model, layer, samples, multilabel, temperature, precision, calibration, test, say
    )
    run = verify.session(made.proto)
    figures, logits, probabilities, evidence = None, None, None, None
    checks, more = made.checks, {}
    if test is not None:
        logits, probabilities = answers(run, test)
        figures = measure.metrics(probabilities, test.labels, about.labels)
        if precision in bits.EXACT:
            checks |= agreement(model, probabilities, test, multilabel, temperature)
    if test is not None and maps:
        say(f"exact and measured; trying the maps of {min(maps, len(test))} pictures")
        evidence = evidences.gather(run, model, made.plan, test, about.labels, measured_on, maps)
        say(f"{evidence.figures['seconds']} s: " + evidence_page.verdict(evidence.figures))
        checks["faithfulness"] = evidence.figures
        more["attention"] = evidence.attention
    else:
        reason = unmeasured if test is None else "--maps was 0"
        checks |= {"faithfulness": None, "faithfulness_reason": reason}
    if validation is not None:
        more["calibration"] = cooled(temperature, validation, test, logits)
        say(calibrate.tell(more["calibration"]))
    golden = goldens.probes(run, samples[:32], about.input, about.labels)
    measured = measure.brief(figures) | {"measured_on": measured_on} if figures else None
    content = cards.card(
        about, made.plan, measured, unmeasured, checks, made.cost, golden, precision
    )
    cards.attach(made.proto, content | more)

    def fill(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(made.proto.SerializeToString())
        if test is not None and figures is not None and probabilities is not None:
            plots = folder / "report"
            report.draw(plots, about.labels, test, probabilities, figures, history, run, private)
            if evidence is not None:
                evidence_page.draw(plots, evidence)
        modelcard.write(about.name, folder)

    return place(tree / about.name, version, fill)


def refuse(name: str, precision: str, calibration: Pixels | None, maps: int) -> None:
    """What can be told before any work is done.

    Raises:
        UserError: a name no folder should have, too few maps, 8 bits without pictures.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"{name!r} is no model name: a-z, 0-9, '.', '_' and '-' only.")
    if maps < 0:
        raise UserError(f"--maps is 0 or more, not {maps}.")
    if precision == "int8" and calibration is None:
        raise UserError("int8 is calibrated on real pictures: --pictures names a folder of them.")


@dataclass(frozen=True)
class Checked:
    """The graph that is served, held against torch; what was found, and what it costs."""

    proto: onnx.ModelProto
    plan: plans.Plan
    checks: dict[str, Any]
    cost: dict[str, Any]


def checked(
    model: Classifier,
    layer: str,
    samples: Pixels,  # (N, H, W, C)
    multilabel: bool,
    temperature: float,
    precision: str,
    calibration: Pixels | None,
    test: Split | None,
    say: Callable[[str], None],
) -> Checked:
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
    plain = plain_graph(model, samples, multilabel, temperature)
    say(f"compiled: {plan.compiler}, {len(proto.graph.node)} nodes; checking")
    checks = verify.check(proto, plain, model, gradcam.find(model.network, layer), samples)
    checks["alpha"] = float(f"{plan.error:.2g}")
    if precision not in bits.EXACT:
        whole = proto
        proto = lower.lowered(whole, precision, samples if calibration is None else calibration)
        plain = bits.plain(proto)
    if whole is not None:
        checks["precision"] = bits.compare(whole, proto, precision, test or samples)
        say(bits.tell(checks["precision"]))
    cost = verify.cost(proto, plain, samples)
    say(f"exact: cam within {checks['cam']:.1e}; explained costs {cost['ratio']:.2f} of plain")
    return Checked(proto, plan, checks, cost)


def answers(run: Run, test: Split) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The exported file's logits and probabilities of every picture, each (N, K), by one pass."""
    both = measure.predict(lambda image: np.stack(verify.run_once(run, image, 0)[:2], 1), test)
    return both[:, 0], both[:, 1]  # of (N, 2, K)


def agreement(
    model: Classifier,
    probabilities: NDArray[np.float32],
    test: Split,
    multilabel: bool,
    temperature: float,
) -> dict[str, Any]:
    """On all test pictures: torch gives the same answers as the exported file."""
    logits = torch.from_numpy(measure.predict(model.predict, test))
    expected = calibrate.probabilities(logits, multilabel, temperature).numpy()
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
            raise verify.CheckFailed(
                f"torch gets {figures['test_correct_torch']} test pictures right and the exported "
                f"file {figures['test_correct_onnx']}; nothing was written."
            )
    return figures


def cooled(
    temperature: float, validation: Split, test: Split | None, logits: NDArray[np.float32] | None
) -> dict[str, Any]:
    """The card's `calibration`: what the temperature changed, on pictures it wasn't fitted on."""
    told: dict[str, Any] = {"temperature": temperature, "fitted_on": len(validation)}
    if test is not None and logits is not None:
        told |= {"measured_on": len(test), **calibrate.change(logits, test.labels, temperature)}
    return told


def place(model: Path, version: int | None, fill: Callable[[Path], None]) -> Path:
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
