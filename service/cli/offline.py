"""What the server would do, without a server: judge a tree of models, explain one picture."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from service.artifact.layout import find_model_files, make_model_path
from service.errors import ApiError
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.inference.explainer import Explainer, RenderedExplanation, check_labels
from service.repository.loader import load_model_file, try_model_file
from service.repository.repository import Repository
from service.repository.sandbox import Sandbox
from service.runtime.session import measure_run
from service.schemas import ExplainOptions
from service.settings import ConfigurationError, Settings
from service.telemetry.timings import Timings

COLUMNS = ("model", "verdict", "provider", "labels", "map", "ms", "checked on")


class CommandError(ConfigurationError):
    """Why a command can't do what it was asked for; one sentence."""


def check(models_dir: Path, settings: Settings) -> tuple[str, bool]:
    """Load every model of a tree as the server would and run its golden probe.

    Returns the table, a line each, and whether all are fit to serve.

    Raises:
        OfflineFault: there is no model in that tree.
    """
    keys = sorted(find_model_files(models_dir))
    if not keys:
        raise CommandError(f"There is no model at {models_dir}/<name>/<version>/model.onnx.")
    rows: list[tuple[str, ...]] = [COLUMNS]
    faults, sandbox = [], Sandbox(try_model_file)
    for name, version in keys:
        path = make_model_path(models_dir, (name, version))
        try:
            rows.append((f"{name}/{version}", "ready", *_describe(path, settings, sandbox)))
        except Exception as fault:  # whatever a file does, the others are checked, too
            rows.append((f"{name}/{version}", "FAILED", "", "", "", "", ""))
            faults.append(str(fault))
    return "\n".join([*_align(rows), *faults]), not faults


def _describe(path: Path, settings: Settings, sandbox: Sandbox) -> tuple[str, str, str, str, str]:
    artifact, session = load_model_file(path, settings, sandbox)
    height, width = artifact.map_shape
    metrics = artifact.card.metrics or {}
    pictures = f"{metrics['pictures']} pictures" if "pictures" in metrics else "nothing measured"
    return (
        session.provider,
        str(len(artifact.card.labels)),
        f"{width}x{height}",
        f"{measure_run(session, artifact) * 1000:.2f}",
        pictures,
    )


def _align(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


class Explained(NamedTuple):
    """A drawn picture, by which model, and what it says."""

    model: str
    drawing: RenderedExplanation


def explain(
    picture: Path, options: ExplainOptions, media_type: str, settings: Settings
) -> Explained:
    """Explain one picture, the way `POST /gradcam` does.

    Raises:
        OfflineFault: the file can't be read, or is refused for the reason in the sentence.
    """
    try:
        content = picture.read_bytes()
    except OSError as fault:
        raise CommandError(f"{picture} can't be read: {fault.strerror}.") from None
    try:
        return asyncio.run(_explain(content, options, media_type, settings))
    except ApiError as refusal:
        raise CommandError(refusal.message) from None


async def _explain(
    content: bytes, options: ExplainOptions, media_type: str, settings: Settings
) -> Explained:
    repository = Repository(settings)
    await repository.refresh()
    model = repository.find(options.model)
    check_labels(options, model)
    explainer = Explainer(Classifier(settings, Admission(settings)))
    drawing = await explainer.draw(content, model, options, media_type, Timings())
    return Explained(f"{model.name}/{model.version}", drawing)
