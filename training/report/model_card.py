"""The card of a model file as a Markdown page: `report/README.md` next to `model.onnx`.

Everything is read from the model file, so the page can be written again at any time. Knows nothing
of networks or data.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from training.artifact.card import METADATA_KEY
from training.errors import UserError
from training.evaluate.chance import describe_accuracy
from training.evaluate.confidence import describe_confidence
from training.evaluate.masks.overlap import describe_overlap
from training.report.explanations import format_explanation_metrics
from training.report.plots import format_metrics, format_table
from training.report.precision import format_precision

MAX_SHOWN_LABELS = 12
MAX_FILE_BYTES = (2 << 30) - 1  # of protobuf
COMPILERS = {
    "closed-form": "the map's weights are a constant matrix",
    "backward": "the map's weights by a backward pass compiled into the graph",
}
METHODS = {
    "gradcam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "seg-gradcam": "Seg-Grad-CAM",
    "seg-hirescam": "HiResCAM over pixel sets",
}
CHECKS = {
    "logits": "logits against torch in double precision, of the largest",
    "logits_torch": "the same for torch in 32 bits: what rounding alone does",
    "probabilities": "probabilities against an export without the explanation",
    "cam": "maps against torch's autograd in double precision, of their largest value",
    "cam_torch": "the same for torch in 32 bits: what rounding alone does",
    "cam_cosine": "least cosine between a map and torch's",
    "rows": "a row alone against the same row among others",
    "mask": "pixels with another class than in double precision, but for ties",
    "additivity": "the map of a pixel set against the sum of those of its parts",
    "empty": "the map of no pixels",
    "test_miou_torch": "mIoU on the test pictures in torch",
    "test_miou_onnx": "mIoU on the test pictures in the exported file",
    "alpha": "channel weights by the short cut against the definition",
    "test_probabilities": "probabilities of all test pictures against torch",
    "test_top1_changed": "test pictures with another answer than torch's",
    "test_correct_torch": "test pictures right in torch",
    "test_correct_onnx": "test pictures right in the exported file",
}


def write_model_page(name: str, folder: Path) -> Path:
    """Write the page of `folder/model.onnx` and return its path."""
    page = folder / "report" / "README.md"
    page.parent.mkdir(exist_ok=True)
    text = render_model_page(name, folder)
    page.write_text(text, encoding="utf-8", errors="replace")  # of a folder's name
    return page


def find_model_files(tree: Path) -> Iterator[Path]:
    """Every model file of a repository, sorted; raises UserError if there is none."""
    found = sorted(tree.glob("*/*/model.onnx"))
    if not found:
        raise UserError(f"{tree} is not a model repository: it has no <name>/<version>/model.onnx.")
    yield from found


def render_model_page(name: str, folder: Path) -> str:
    """The page as Markdown.

    Raises:
        UserError: the model file has no readable card.
    """
    content = read_model_file(folder / "model.onnx")
    card = read_card(content)
    lines = [f"# Model card: {name}", "", *format_facts(card, content), ""]
    lines += ["## Use", "", "```sh"]
    lines += [f"curl -F image=@picture.jpg -F model={name} http://127.0.0.1:3000/predict"]
    views = {"segment": "mask", "gradcam": "map"}
    if card["task"] != "segmentation":
        del views["segment"]
    lines += [
        f"curl -F image=@picture.jpg -F model={name} http://127.0.0.1:3000/{view} -o {file}.png"
        for view, file in views.items()
    ]
    lines += ["```", "", "## Know before you use it", "", *list_cautions(card), ""]
    if metrics := card["metrics"]:
        where = metrics.get("measured_on", "the test split")
        lines += ["## Measured", "", f"On {where}, through this very file, in onnxruntime."]
        lines += ["", *format_metrics(folder / "report", metrics), ""]
    if figures := card["checks"].get("faithfulness"):
        lines += ["## Whether its maps can be believed", ""]
        lines += [*format_explanation_metrics(folder / "report", figures), ""]
    lines += ["## Checked before it was written", "", *format_checks(card), ""]
    lines += ["## How it was made", "", "```json"]
    lines += [json.dumps(card["training"], indent=2, ensure_ascii=False), "```", ""]
    lines += [
        "This page is written from the file: `python -m training describe` does it again.",
        "",
    ]
    return "\n".join(lines)


def read_model_file(path: Path) -> bytes:
    """The bytes of a model file.

    Raises:
        UserError: it cannot be read, or is too large for a model file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UserError(
                f"{path} has {size} bytes, but a model file has at most {MAX_FILE_BYTES}."
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Give a model file.") from error


def read_card(content: bytes) -> dict[str, Any]:
    """The card of a model file's bytes."""
    try:
        entries = {p.key: p.value for p in onnx.load_from_string(content).metadata_props}
        return dict(json.loads(entries[METADATA_KEY]))
    except (DecodeError, KeyError, ValueError) as error:
        raise UserError(
            f"The model file has no readable card ({type(error).__name__}). "
            "Export the model with `export` or `import`, which write one."
        ) from error


def format_checks(card: dict[str, Any]) -> list[str]:
    """The figures of the checks. A lower precision is compared with 32 bits, not with torch."""
    checks = card["checks"]
    against_torch = {
        CHECKS.get(check, check): worst for check, worst in checks.items() if worst is not None
    }
    table = format_table(against_torch, "| what | worst |")
    if not (loss := checks.get("precision")):
        return table
    return [*table, "", *format_precision(loss)]


def format_facts(card: dict[str, Any], content: bytes) -> list[str]:
    """The model's facts as a table."""
    input_spec, gradcam, training = card["input"], card["gradcam"], card["training"]
    height, width = get_map_size(card)
    kind = "gray" if input_spec["mode"] == "L" else "colour"
    geometry = (
        f"shorter side to {input_spec['resize']}, centre crop"
        if input_spec["crop"]
        else "squashed to that size"
    )
    cost = (
        f"; {gradcam['cost']['ratio']:.2f} times a prediction's cost" if "cost" in gradcam else ""
    )
    epochs = f", {training['epochs']} epochs" if "epochs" in training else ""
    rows = {
        "file": f"`model.onnx`, {len(content):,} bytes, sha256 "
        f"`{hashlib.sha256(content).hexdigest()}`",
        "architecture": f"`{card['architecture']}`",
        "answers": f"{describe_task(card)}: {shorten_labels(card['labels'])}",
        "reads": f"{kind} pictures of {input_spec['width']} x {input_spec['height']} ({geometry}, "
        f"{input_spec['interpolation']})",
        "explains": f"layer `{gradcam['layer']}`, maps of {width} x {height} by "
        f"{METHODS.get(gradcam['method'], gradcam['method'])}; "
        f"{COMPILERS.get(gradcam['compiler'], gradcam['compiler'])}{cost}",
        "comes from": f"{training.get('data') or training.get('origin', 'not said')}{epochs}",
        "license": card["license"],
        "made": f"{card['created'][:10]} with "
        + ", ".join(f"{tool} {version}" for tool, version in card["tools"].items()),
    }
    return ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items())]


def describe_task(card: dict[str, Any]) -> str:
    """The number of labels, and whether they exclude each other."""
    count = f"{len(card['labels']):,}"
    if card["task"] == "segmentation":
        return f"for each pixel, one of {count}"
    return f"one of {count}" if card["task"] == "multiclass" else f"any of {count}, each by itself"


def shorten_labels(labels: list[str]) -> str:
    """The labels, or the first few if there are many."""
    return ", ".join(labels[:MAX_SHOWN_LABELS]) + (" …" if len(labels) > MAX_SHOWN_LABELS else "")


def get_map_size(card: dict[str, Any]) -> tuple[int, int]:
    """Height and width of the maps, in cells."""
    cam = card["golden"][0]["cam"]
    return len(cam), len(cam[0])


def list_warnings(card: dict[str, Any]) -> list[str]:
    """When its answers come with a warning."""
    confidence = card.get("confidence")
    if confidence is None:
        return ["Its answers come without warnings, because its card has no thresholds for them."]
    return describe_confidence(confidence)


def list_cautions(card: dict[str, Any]) -> list[str]:
    """How often it is right, and the limits that follow from the facts, as a list."""
    input_spec, (height, width) = card["input"], get_map_size(card)
    cell = f"{input_spec['width'] / width:.3g} x {input_spec['height'] / height:.3g}"
    sentences = list(judge_accuracy(card))
    if card["task"] == "multiclass":
        sentences.append(
            "It answers one of its labels to any picture, also to one that shows none of them; "
            "probabilities of all labels sum to 1."
        )
    elif card["task"] == "segmentation":
        sentences.append("It gives every pixel one of its labels, whatever the picture shows.")
    else:
        sentences.append("Each label has a probability of its own; none of them may be present.")
    sentences.append(
        f"It sees {input_spec['width']} x {input_spec['height']} pixels, "
        "whatever the picture's size"
        + (": what lies outside the central square is not seen." if input_spec["crop"] else ".")
    )
    sentences.append(
        f"A cell of its map covers {cell} of these pixels; finer structure in a heatmap is "
        "interpolation."
    )
    if caution := (card["metrics"] or {}).get("caution"):
        sentences.append(caution)
    sentences += list_warnings(card)
    figures = card["checks"].get("faithfulness")
    if not figures:
        reason = card["checks"].get("faithfulness_reason", "its card has no figures")
        sentences.append(f"Whether its maps can be believed was not measured: {reason}.")
    elif figures["doubts"]:
        sentences.append(f"Its maps: {'; '.join(figures['doubts'])}.")
    return [f"- {sentence}" for sentence in sentences]


def judge_accuracy(card: dict[str, Any]) -> Iterator[str]:
    """How often the model is right, and the doubts about that, as sentences."""
    metrics = card["metrics"]
    if not metrics:
        reason = card.get("metrics_reason", "its card has no figures")
        yield f"How often it is right was not measured: {reason}."
        return
    masks = card["task"] == "segmentation"
    text = describe_overlap(metrics, card["labels"]) if masks else describe_accuracy(metrics)
    yield f"{text[0].upper()}{text[1:]}."
    yield from (f"Doubt: {doubt}." for doubt in metrics.get("doubts", []))
