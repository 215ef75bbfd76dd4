"""Gives a finished model file another card: its warnings' thresholds, and texts for people.

The weights and the graph's other outputs stay as they are.
"""

import datetime
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from training.artifact.card import attach_card
from training.artifact.introduction import IntroductionRequest, make_introduction
from training.config import Config
from training.data.datasets import Split, load_trained_dataset
from training.data.splits import SPLITS_IN_WORDS, VALIDATION_CAUTION
from training.errors import UserError
from training.export.confidence import load_others, measure_doubts
from training.export.labels import load_labelled_split
from training.export.version_folder import place_version
from training.imaging.preprocessing import Input, Pixels
from training.report.model_card import read_card, read_model_file, write_model_page
from training.report.plots import save_risk_coverage


@dataclass(frozen=True)
class AnnotateRequest:
    """The arguments of the command `annotate`."""

    file: Path
    pictures: Path | None = None  # None: the data set that the card names
    pictures_are: str = ""
    unlike: Sequence[str] = ()
    familiarity: bool = False
    version: int | None = None
    own_fields: bool = False
    introduction: IntroductionRequest | None = None
    say: Callable[[str], None] = print


@dataclass(frozen=True)
class HeldOut:
    """The pictures that set the thresholds, and others to learn the usual features from."""

    split: Split
    usual: Pixels | None
    measured_on: str
    caution: str = ""


def annotate_model(request: AnnotateRequest) -> Path:
    """Write another card for a model file; returns the folder of the new version.

    The warnings' thresholds are measured, unless the request has only texts and examples. A request
    for ONNX's own fields changes neither card nor version.

    Raises:
        UserError: the file is no model file, or the pictures do not fit it.
        CheckError: the output `familiarity` would change the others.
    """
    content = read_model_file(request.file)
    card, proto = read_card(content), onnx.load_from_string(content)
    introduction = make_introduction(request.introduction, card["labels"])
    if request.own_fields:
        return write_annotated(request, proto, card, find_own_version(request, introduction))
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    card |= {**introduction, "annotated": now}
    if not introduction or request.pictures or request.unlike or request.familiarity:
        if card["task"] == "segmentation":
            raise UserError(
                f"{request.file} is a model of masks, whose answers have no warnings. Give it only "
                "--title, --summary or --examples."
            )
        proto, card["confidence"] = measure_thresholds(request, card, proto)
    return write_annotated(request, proto, card, request.version)


def find_own_version(request: AnnotateRequest, introduction: dict[str, Any]) -> int:
    """The version of a file whose own fields alone are written."""
    name = request.file.parent.name
    if not name.isdigit() or request.file.name != "model.onnx":
        raise UserError(f"{request.file} is not a model file <name>/<version>/model.onnx.")
    if request.pictures or request.unlike or request.familiarity or request.version or introduction:
        raise UserError(
            f"--own-fields changes nothing else of {request.file}. Give it without other options, "
            "or leave it out: a new version has these fields anyway."
        )
    return int(name)


def write_annotated(
    request: AnnotateRequest, proto: onnx.ModelProto, card: dict[str, Any], version: int | None
) -> Path:
    """Write the file with its card and its report; returns the folder of the version."""
    model, report = request.file.parents[1], request.file.parent / "report"

    def fill(folder: Path, version: int) -> None:
        attach_card(proto, card, version)
        (folder / "model.onnx").write_bytes(proto.SerializeToString())
        if report.is_dir():
            shutil.copytree(report, folder / "report")
        if card.get("confidence") and not request.own_fields:  # else its plot is there
            save_risk_coverage(folder / "report", card["confidence"])
        write_model_page(model.name, folder)

    return place_version(model, version, fill)


def measure_thresholds(
    request: AnnotateRequest, card: dict[str, Any], proto: onnx.ModelProto
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Measure when answers should be doubted. Returns the graph and the card's `confidence`."""
    input_spec = Input(**card["input"])
    held_out = load_held_out(request, card, input_spec)
    usual = held_out.usual if request.familiarity else None
    others = load_others(request.unlike, input_spec)
    doubts = measure_doubts(proto, held_out.split, others, usual, request.say)
    confidence = {**doubts.confidence, "measured_on": held_out.measured_on}
    confidence |= {"caution": held_out.caution} if held_out.caution else {}
    return doubts.proto, confidence


def load_held_out(request: AnnotateRequest, card: dict[str, Any], input_spec: Input) -> HeldOut:
    """The user's labelled pictures, or the test split of the data set that the card names."""
    labels = tuple(card["labels"])
    if request.pictures is not None:
        split, usual = load_labelled_split(request.pictures, labels, input_spec), None
        if request.familiarity:  # nothing is measured on the pictures that the features learn from
            odd = np.arange(len(split)) % 2 == 1
            split, usual = split.select(~odd), split.select(odd).pictures
        what = request.pictures_are or f"the pictures of {request.pictures.name}"
        return HeldOut(split, usual, what)
    fields = card["training"].get("config")
    if fields is None:
        raise UserError(
            f"The card of {request.file} names no data set. Give a folder of labelled pictures "
            "with --pictures."
        )
    data = load_trained_dataset(Config.from_json(fields), labels)
    measured = data.measured_split
    usual = data.get_split("val" if measured == "test" else "train").pictures
    caution = VALIDATION_CAUTION if measured == "val" else ""
    return HeldOut(data.get_split(measured), usual, SPLITS_IN_WORDS[measured], caution)
