"""The commands that need no server: load all models and report, explain one picture."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from pydantic_core import from_json

from service.api.segmentation import check_task
from service.artifact.layout import UnreadableTree, make_model_path, scan_tree
from service.cli.errors import CommandError
from service.cli.pictures import open_classifier, read_picture, run_in_time
from service.errors import ApiError, excerpt, make_printable
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.inference.explainer import Explainer, RenderedExplanation
from service.inference.image_request import ImageRequest
from service.inference.segmentation.explainer import RegionExplainer
from service.parameters import ExplainOptions
from service.repository.loader import load_model_file
from service.repository.repository import Repository
from service.repository.sandbox import Sandbox
from service.repository.trial import try_model_file
from service.runtime.opening import measure_run
from service.settings import Settings
from service.telemetry.timings import Timings

MAX_CHARACTERS = 1000  # of what a file that failed may say
COLUMNS = ("model", "state", "provider", "labels", "map", "ms", "evaluated on")


def check(models_dir: Path, settings: Settings) -> tuple[str, bool]:
    """Load every model in a folder as the server would and run its golden test.

    Returns a table with one line per model, and whether the server can serve all of them.

    Raises:
        CommandError: there is no model in the folder, or the folder cannot be read.
    """
    try:
        tree = scan_tree(models_dir)
    except UnreadableTree as exc:
        raise CommandError(str(exc)) from None
    if not tree.files:
        expected = f"expected {models_dir}/<name>/<version>/model.onnx."
        raise CommandError(
            "\n".join([f"There is no model in {models_dir}: {expected}", *tree.faults])
        )
    rows: list[tuple[str, ...]] = [COLUMNS]
    failures, sandbox = [], Sandbox(partial(try_model_file, settings))
    for name, version in sorted(tree.files):
        path = make_model_path(models_dir, (name, version))
        try:
            rows.append((f"{name}/{version}", "ready", *_describe_model(path, settings, sandbox)))
        except Exception as exc:  # whatever one file causes, the others are still checked
            rows.append((f"{name}/{version}", "FAILED", "", "", "", "", ""))
            failures.append(make_printable(str(exc)[:MAX_CHARACTERS]))
    return "\n".join([*_align_columns(rows), *failures, *tree.faults]), not failures


def _describe_model(path: Path, settings: Settings, sandbox: Sandbox) -> tuple[str, ...]:
    artifact, session = load_model_file(path, settings, sandbox)
    height, width = artifact.map_shape
    metrics = from_json(artifact.public_card)["metrics"] or {}
    evaluated = f"{metrics['pictures']} pictures" if "pictures" in metrics else "not evaluated"
    return (
        session.provider,
        str(len(artifact.card.labels)),
        f"{width}x{height}",
        f"{measure_run(session, artifact) * 1000:.2f}",
        excerpt(make_printable(evaluated)),
    )


def _align_columns(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


class ExplainedPicture(NamedTuple):
    """A rendered explanation and the model it is of."""

    model: str
    rendered: RenderedExplanation


def explain(
    picture: Path, options: ExplainOptions, media_type: str, settings: Settings
) -> ExplainedPicture:
    """Explain one picture as `POST /gradcam` does.

    Raises:
        CommandError: the file can't be read, or the service would reject it.
    """
    admission = Admission(settings)
    try:
        content = read_picture(picture, settings)
        classifier = open_classifier(settings, admission)
        return asyncio.run(_explain(content, options, media_type, settings, admission, classifier))
    except OSError as exc:
        raise CommandError(f"{picture} can't be read: {exc.strerror}.") from None
    except MemoryError:
        raise CommandError(f"{picture} takes more memory than there is.") from None
    except ApiError as exc:
        raise CommandError(exc.message) from None


async def _explain(
    content: bytes,
    options: ExplainOptions,
    media_type: str,
    settings: Settings,
    admission: Admission,
    classifier: Classifier,
) -> ExplainedPicture:
    repository = Repository(settings)
    await repository.refresh()
    model = repository.find(options.model)
    check_task(options, model, repository)
    explainer = (RegionExplainer if model.segments else Explainer)(classifier)
    with admission.admit(len(content), settings.request_timeout_ms / 1000) as permit:
        permit.mark_body_received()
        request = ImageRequest(content, model, options, Timings(), permit)
        rendered = await run_in_time(explainer.draw(request, media_type), settings)
    return ExplainedPicture(f"{model.name}/{model.version}", rendered)


def describe_explanation(explained: ExplainedPicture, output: Path) -> str:
    """What a person at the terminal reads. The labels are whatever the model file says."""
    predicted, target = explained.rendered.predicted, explained.rendered.target
    answer, explained_label = excerpt(predicted["label"]), excerpt(target["label"])
    lines = [
        f"{explained.model}: {answer} ({_to_percent(predicted['probability'])})",
        f"{output}: the evidence for {explained_label} ({_to_percent(target['probability'])})",
        *(f"Warning: {warning['message']}" for warning in explained.rendered.warnings),
    ]
    verification = explained.rendered.verification
    if verification and verification["hot_blurred"] is None:
        lines.append("The map is empty, so there is nothing to verify.")
    elif verification:
        lines += [
            f"with the hottest fifth blurred: {_to_percent(verification['hot_blurred'])}",
            f"with the coldest fifth blurred: {_to_percent(verification['cold_blurred'])}",
        ]
    return "\n".join(map(make_printable, lines))


def _to_percent(probability: float | None) -> str:
    return "no pixels" if probability is None else f"{probability:.1%}"
