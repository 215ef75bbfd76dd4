"""The card of a model file: the JSON in its metadata. Knows nothing of how checks are made."""

import datetime
import importlib.metadata
import json
from dataclasses import dataclass, field
from typing import Any

import onnx

from training import __version__
from training.gradcam.map_layout import get_layer_name
from training.gradcam.masks.compiler import MaskPlan
from training.gradcam.plan import Plan
from training.imaging.preprocessing import Input

METADATA_KEY = "sightglass"
DOMAIN = "sightglass"  # of the model, as ONNX calls the maker's namespace
NAMED_LABELS = 10  # in the description
REPORTED_TOOLS = (
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "onnxruntime-gpu",
    "onnxruntime",
    "numpy",
    "pillow",
)


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a network before it is exported."""

    name: str
    architecture: str
    labels: tuple[str, ...]
    input: Input
    task: str
    license: str
    training: dict[str, Any]
    introduction: dict[str, Any] = field(default_factory=dict)  # title, summary, examples


@dataclass(frozen=True)
class Findings:
    """What was found out about an exported graph."""

    checks: dict[str, Any]
    cost: dict[str, float]
    golden: list[dict[str, Any]]
    metrics: dict[str, Any] | None
    unmeasured: str  # the reason if there are no metrics
    attention: dict[str, Any] | None = None
    calibration: dict[str, Any] | None = None
    confidence: dict[str, Any] | None = None
    demands: dict[str, list[str]] = field(default_factory=dict)  # of processor and engine


def make_card(
    model: ModelInfo, plan: Plan | MaskPlan, precision: str, findings: Findings
) -> dict[str, Any]:
    """The card. Findings that are None are left out, except that `metrics` gets a reason."""
    optional = {
        "attention": findings.attention,
        "calibration": findings.calibration,
        "confidence": findings.confidence,
    }
    return {
        "schema": 1,
        "architecture": model.architecture,
        "task": model.task,
        "labels": list(model.labels),
        "input": model.input.to_card(),
        "precision": precision,
        **findings.demands,
        "gradcam": {
            "layer": get_layer_name(plan.layer),
            "method": plan.method,
            **({"method_reason": plan.reason} if plan.reason else {}),
            "compiler": plan.compiler,
            "pivot": plan.pivot,
            "cost": findings.cost,
        },
        "training": model.training,
        "metrics": findings.metrics,
        **({} if findings.metrics else {"metrics_reason": findings.unmeasured}),
        "checks": findings.checks,
        "golden": findings.golden,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "tools": {"sightglass": __version__}
        | {tool: version for tool in REPORTED_TOOLS if (version := find_installed_version(tool))},
        "license": model.license,
        **{name: found for name, found in optional.items() if found is not None},
        **model.introduction,
    }


def attach_card(proto: onnx.ModelProto, content: dict[str, Any], version: int) -> None:
    """Write the card into the model's metadata, and what other tools show of a model.

    The bytes follow from the arguments alone.
    """
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.encode(errors="replace").decode()  # a file's name may have bytes that are no text
    onnx.helper.set_model_props(proto, {METADATA_KEY: text})
    proto.domain, proto.model_version = DOMAIN, version
    proto.doc_string = describe_card(json.loads(text))


def describe_card(content: dict[str, Any]) -> str:
    """The card in a few sentences."""
    labels, gradcam = content["labels"], content["gradcam"]
    named = ", ".join(labels[:NAMED_LABELS]) + (", …" if len(labels) > NAMED_LABELS else "")
    title = [f"{content['title']}."] if "title" in content else []
    summary = [content["summary"]] if "summary" in content else []
    return " ".join(
        [
            *title,
            *summary,
            f"A {content['task']} model, {content['architecture']}, with {len(labels)} labels: "
            f"{named}.",
            f"Its output `cam` explains the layer {gradcam['layer']} by {gradcam['method']}.",
            f"License: {content['license']}.",
            f"The metadata entry `{METADATA_KEY}` has the card as JSON.",
        ]
    )


def find_installed_version(package: str) -> str | None:
    """The version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
