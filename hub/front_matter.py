"""The card of a model file as Hugging Face reads it: YAML at the top of README.md."""

import re
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

PIPELINE = "image-classification"
PIPELINES = {"segmentation": "image-segmentation"}  # by the task in the card
LIBRARY = "onnx"
TAGS = ("sightglass", "grad-cam", "explainability")
KNOWN_LICENSES = re.compile(
    r"apache-2\.0|mit|bsd-[23]-clause|cc0-1\.0|cc-by(-nc)?(-sa|-nd)?-[234]\.[05]"
    r"|[al]?gpl-[23]\.[01]|mpl-2\.0|unlicense|unknown"
)
METRICS = {  # of the card, and as Hugging Face calls them
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced_accuracy",
    "macro_f1": "f1",
    "macro_roc_auc": "roc_auc",
}


def make_readme(name: str, card: dict[str, Any], page: str, address: str) -> str:
    """Return README.md: the front matter, how to get the model, and the page of its card."""
    data = ModelCardData(
        library_name=LIBRARY,
        pipeline_tag=find_pipeline(card),
        tags=[*TAGS, card["architecture"]],
        model_name=name,
        eval_results=list_results(card) or None,
        **describe_license(card["license"]),
    )
    if not data.eval_results:
        data.model_name = None  # it belongs to the results
    usage = (
        f"## Serve it\n\n```sh\nsightglass pull {address} --name {name}\nsightglass serve\n```\n"
    )
    head, separator, rest = page.partition("\n## ")
    body = f"{head}\n{usage}{separator}{rest}"
    return f"---\n{data.to_yaml()}\n---\n\n{body.rstrip()}\n"


def describe_license(text: str) -> dict[str, Any]:
    """The license as one that Hugging Face knows, or as another one with its name."""
    known = text.strip().lower()
    if KNOWN_LICENSES.fullmatch(known):
        return {"license": known}
    return {"license": "other", "license_name": make_slug(known)}


def list_results(card: dict[str, Any]) -> list[EvalResult]:
    """What the card says was measured, a result for each measure."""
    measured = card["metrics"] or {}
    data = card["training"].get("data") or measured.get("measured_on") or "held-out pictures"
    return [
        EvalResult(
            task_type=find_pipeline(card),
            dataset_type=make_slug(re.split(r" \(|[:;,]", str(data))[0]),
            dataset_name=str(data),
            metric_type=known,
            metric_value=measured[ours],
        )
        for ours, known in METRICS.items()
        if ours in measured
    ]


def find_pipeline(card: dict[str, Any]) -> str:
    """What Hugging Face calls the task of the model."""
    return PIPELINES.get(card["task"], PIPELINE)


def make_slug(text: str) -> str:
    """The text as a short name for machines."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
