"""The last step of an export: the card, the golden tests and the report, stored as a version.

It is filled beside its place and then moved there, the model last, so that a reader never sees half
of it.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from training.artifact.card import Findings, attach_card, make_card
from training.artifact.golden import make_golden_tests
from training.evaluate.metrics import drop_confusion_matrix
from training.export.measured_graph import MeasuredGraph
from training.export.request import ExportRequest
from training.report.explanations import save_explanation_plots
from training.report.model_card import write_model_page
from training.report.plots import save_report_plots, save_risk_coverage

FILE_NAME = "model.onnx"


def write_version(request: ExportRequest, measured: MeasuredGraph) -> Path:
    """Attach the card to the graph, and write the file and its report; returns the folder."""
    proto, card = measured.served.proto, describe_graph(request, measured)

    def fill(folder: Path, version: int) -> None:
        attach_card(proto, card, version)
        (folder / FILE_NAME).write_bytes(proto.SerializeToString())
        if measured.evaluation is not None:
            save_report_plots(
                folder / "report",
                measured.evaluation,
                request.history,
                measured.run,
                request.private,
            )
        if measured.confidence is not None:
            save_risk_coverage(folder / "report", measured.confidence)
        if measured.explanations is not None:
            save_explanation_plots(folder / "report", measured.explanations)
        write_model_page(request.info.name, folder)

    return place_version(request.repository / request.info.name, request.version, fill)


def describe_graph(request: ExportRequest, measured: MeasuredGraph) -> dict[str, Any]:
    """The card of the graph, with golden tests from the first samples."""
    info, served, metrics = request.info, measured.served, None
    if measured.evaluation is not None:
        figures = drop_confusion_matrix(measured.evaluation.figures)
        metrics = figures | {"measured_on": request.measured_on}
        metrics |= {"caution": request.caution} if request.caution else {}
    findings = Findings(
        checks=measured.checks,
        cost=served.cost,
        golden=make_golden_tests(measured.run, request.samples[:32], info.input, info.labels),
        metrics=metrics,
        unmeasured=request.unmeasured,
        attention=None if measured.explanations is None else measured.explanations.attention,
        calibration=measured.calibration,
        confidence=measured.confidence,
        demands=served.demands,
    )
    return make_card(info, served.plan, served.precision, findings)


def place_version(model: Path, version: int | None, fill: Callable[[Path, int], None]) -> Path:
    """Fill a temporary folder and move it to the version, by default the next free one.

    The model comes last: a server takes the version for whole as soon as it is there. Other exports
    may add versions at the same time.
    """
    model.mkdir(parents=True, exist_ok=True)
    folder = model / str(version) if version else claim_next_version(model)
    partial = Path(tempfile.mkdtemp(prefix=".part-", dir=model))
    try:
        fill(partial, int(folder.name))
        folder.mkdir(exist_ok=True)
        shutil.rmtree(folder / "report", ignore_errors=True)
        for path in sorted(partial.iterdir(), key=lambda path: path.name == FILE_NAME):
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):  # it has a model
            folder.rmdir()
    return folder


def claim_next_version(model: Path) -> Path:
    """Make the folder of the version after those that there are; nobody else has it then."""
    version = max((int(path.name) for path in model.iterdir() if path.name.isdigit()), default=0)
    while True:
        version += 1
        folder = model / str(version)
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
