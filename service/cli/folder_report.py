"""Explains all pictures of a folder without a server: a table as CSV, and one HTML page."""

import asyncio
import base64
import contextlib
import csv
import datetime
import html
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import IO

from service.api.segmentation import check_task
from service.cli.errors import CommandError
from service.cli.pictures import open_classifier, read_picture, run_in_time
from service.errors import ApiError, decode_name
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.inference.explainer import Explainer, RenderedExplanation, check_labels
from service.inference.image_request import ExplainRequest
from service.inference.segmentation.explainer import RegionExplainer, check_region_labels
from service.parameters import ExplainOptions
from service.repository.model import Model
from service.repository.repository import Repository
from service.settings import Settings
from service.telemetry.timings import Timings

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic")
AT_ONCE = 4  # pictures that are decoded while others are run
THUMBNAIL_SIDE = 224  # pixels
COLUMNS = ("picture", "class", "confidence", "warnings", "error", "model", "sha256")
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run such a cell
HEAD = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ max-width: 960px; margin: 32px auto; padding: 0 24px; color: #182022;
 font: 15px/1.5 system-ui, sans-serif; }}
h1 {{ margin: 0; font-size: 26px; }} p {{ color: #566164; }}
table {{ width: 100%; border-collapse: collapse; }}
th, td {{ padding: 8px 12px 8px 0; border-bottom: 1px solid #d5dad7; text-align: left;
 vertical-align: top; overflow-wrap: anywhere; }}
th {{ color: #566164; font-weight: 500; }} td img {{ width: 112px; border-radius: 6px; }}
@media print {{ tr {{ break-inside: avoid; }} }}
</style></head><body><main>
<h1>{title}</h1>
<p>{model}. Warm parts counted, cool parts were ignored. A percentage is the model's own
confidence.</p>
<table><thead><tr><th scope="col">Heat</th><th scope="col">Picture</th><th scope="col">Class</th>
<th scope="col">Confidence</th><th scope="col">Warnings</th></tr></thead><tbody>
"""
FOOT = "</tbody></table><p>Model file {sha256}. {date} UTC.</p></main></body></html>\n"


@dataclass(frozen=True)
class Row:
    """One picture: its explanation, or the sentence that says why there is none."""

    name: str
    found: RenderedExplanation | None
    error: str = ""


def explain_folder(
    folder: Path, options: ExplainOptions, outputs: Sequence[Path | None], settings: Settings
) -> tuple[int, int]:
    """Explain the pictures of a folder and write the report and the CSV, of which one may be None.

    Returns the number of pictures, and of those that could not be explained.

    Raises:
        CommandError: there is no picture, or a file cannot be written.
    """
    paths = list_pictures(folder)
    options = options.model_copy(update={"size": THUMBNAIL_SIDE})
    admission = Admission(settings)
    classifier = open_classifier(settings, admission)
    with contextlib.ExitStack() as stack:

        def open_outputs() -> list[IO[str] | None]:
            return [stack.enter_context(_open(path)) if path else None for path in outputs]

        try:
            rows = _Rows(folder, paths, options, settings, admission, classifier)
            return asyncio.run(_write_rows(rows, open_outputs))
        except ApiError as exc:
            raise CommandError(exc.message) from None


def list_pictures(folder: Path) -> list[Path]:
    """Return the files below a folder that are named like pictures, sorted; a file is its own."""
    if folder.is_file():
        return [folder]
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise CommandError(
            f"There is no picture in {folder}. Give a folder with files such as cat.jpg."
        )
    return paths


@dataclass(frozen=True)
class _Rows:
    """What the rows are made of."""

    folder: Path
    paths: Sequence[Path]
    options: ExplainOptions
    settings: Settings
    admission: Admission
    classifier: Classifier


async def _write_rows(
    rows: _Rows, open_outputs: Callable[[], list[IO[str] | None]]
) -> tuple[int, int]:
    options, paths = rows.options, rows.paths
    repository = Repository(rows.settings)
    await repository.refresh()
    model = repository.find(options.model)
    check_task(options, model, repository)
    (check_region_labels if model.segments else check_labels)(options, model)
    report, table = open_outputs()  # after all checks, so that a mistake empties no file
    name, sha256 = f"{model.name}/{model.version}", model.artifact.sha256
    title = f"{len(paths)} pictures in {decode_name(rows.folder.name)}"
    writer = csv.writer(table) if table else None
    if writer:
        writer.writerow(COLUMNS)
    if report:
        shown = f"{model.artifact.card.title} ({name})" if model.artifact.card.title else name
        report.write(HEAD.format(title=html.escape(title), model=html.escape(shown)))
    failed = 0
    async for row in _explain_each(rows, model):
        failed += row.found is None
        if writer:
            writer.writerow([*map(_defuse, _list_cells(row)), name, sha256])
        if report:
            report.write(_write_html(row))
    if report:
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M")
        report.write(FOOT.format(sha256=sha256, date=date))
    return len(paths), failed


async def _explain_each(rows: _Rows, model: Model) -> AsyncIterator[Row]:
    """Explain the pictures in their order, a few at once. Whatever one causes, others follow."""
    folder, paths, admission, settings = rows.folder, rows.paths, rows.admission, rows.settings
    explainer = (RegionExplainer if model.segments else Explainer)(rows.classifier)

    async def explain(path: Path) -> Row:
        name = decode_name(path.name if folder.is_file() else path.relative_to(folder).as_posix())
        try:
            content = await asyncio.to_thread(read_picture, path, settings)
            with admission.admit(len(content), inf) as permit:  # nobody else waits
                permit.mark_body_received()
                request = ExplainRequest(content, model, rows.options, Timings(), permit)
                drawing = explainer.draw(request, "image/jpeg")
                return Row(name, await run_in_time(drawing, settings, AT_ONCE))
        except OSError as exc:
            return Row(name, None, f"It can't be read: {exc.strerror}.")
        except MemoryError:
            return Row(name, None, "It takes more memory than there is.")
        except ApiError as exc:
            return Row(name, None, exc.message)

    for start in range(0, len(paths), AT_ONCE):
        for row in await asyncio.gather(*map(explain, paths[start : start + AT_ONCE])):
            yield row
        if sys.stderr.isatty():
            done = min(start + AT_ONCE, len(paths))
            sys.stderr.write(f"\r{done} of {len(paths)} pictures")
            sys.stderr.flush()


def _list_cells(row: Row) -> list[str]:
    if row.found is None:
        return [row.name, "", "", "", row.error]
    target = row.found.target
    codes = " ".join(warning["code"] for warning in row.found.warnings)
    share = target["probability"]
    return [row.name, target["label"], "" if share is None else f"{share:.6f}", codes, ""]


def _defuse(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULAS) else cell


def _write_html(row: Row) -> str:
    cells: Iterator[str]
    if row.found is None:
        cells = iter(("", html.escape(row.name), html.escape(row.error), "", ""))
    else:
        target, content = row.found.target, base64.b64encode(row.found.content).decode()
        warnings = " ".join(warning["message"] for warning in row.found.warnings)
        share = target["probability"]
        texts = (row.name, target["label"], "" if share is None else f"{share:.1%}", warnings)
        picture = f'<img alt="" loading="lazy" src="data:image/jpeg;base64,{content}">'
        cells = iter((picture, *map(html.escape, texts)))
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"


def _open(path: Path) -> IO[str]:
    try:
        return path.open("w", encoding="utf-8", newline="")
    except OSError as exc:
        raise CommandError(f"{path} can't be written: {exc.strerror}.") from None
