"""Exports a checkpoint of a training run, with what its config says of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.artifact.card import ModelInfo
from training.artifact.introduction import IntroductionRequest, make_introduction
from training.config import Config
from training.data.datasets import load_trained_dataset
from training.data.mask_folder import MaskSplit
from training.data.splits import SPLITS_IN_WORDS, VALIDATION_CAUTION
from training.errors import UserError
from training.evaluate.explanations import DEFAULT_MAPS
from training.export.masks.pipeline import export_masks
from training.export.masks.request import DEFAULT_METHOD, MaskExportRequest
from training.export.pipeline import export_model
from training.export.request import ExportRequest
from training.fit.checkpoint import load_checkpoint
from training.networks.classifier import get_default_layer

SAMPLES = 64  # test pictures for the checks and golden tests
UNREPORTED_FIELDS = ("source", "device")  # of a config


@dataclass(frozen=True)
class CheckpointRequest:
    """The arguments of the command `export`. None stands for what the config says."""

    checkpoint: Path
    to: Path
    name: str | None = None
    version: int | None = None
    layer: str | None = None
    method: str | None = None
    precision: str = "fp32"
    maps: int = DEFAULT_MAPS
    calibrate: bool = False
    unlike: Sequence[str] = ()
    familiarity: bool = False
    introduction: IntroductionRequest | None = None


def export_checkpoint(request: CheckpointRequest) -> Path:
    """Load a checkpoint and its data set, and export it; returns the folder of the version.

    Raises:
        UserError: the file is not a checkpoint, or an argument is not valid.
        CheckError: a check of the exported graph failed.
    """
    config, labels, model, rest = load_checkpoint(request.checkpoint)
    check_options(request, config.task)
    introduction = make_introduction(request.introduction, labels)
    data, history = load_trained_dataset(config, labels), rest["history"][: rest["epoch"]]
    measured = data.measured_split
    test, others = data.get_split(measured), "val" if measured == "test" else "train"
    info = ModelInfo(
        name=request.name or config.name,
        architecture=config.architecture,
        labels=labels,
        input=config.input,
        task=config.task,
        license=config.license,
        training=describe_training(config, rest["epoch"], history[-1]),
        introduction=introduction,
    )
    if isinstance(test, MaskSplit):
        return export_masks(
            MaskExportRequest(
                info,
                model,
                layer=request.layer or config.layer or get_default_layer(model.network),
                samples=test.pictures[:: max(len(test) // SAMPLES, 1)][:SAMPLES],
                repository=request.to,
                version=request.version,
                method=request.method or DEFAULT_METHOD,
                precision=request.precision,
                test=test,
                measured_on=SPLITS_IN_WORDS[measured],
                caution=VALIDATION_CAUTION if measured == "val" else "",
                maps=request.maps,
                history=history,
            )
        )
    return export_model(
        ExportRequest(
            info,
            model,
            layer=request.layer or config.layer or get_default_layer(model.network),
            samples=test.pictures[:: max(len(test) // SAMPLES, 1)][:SAMPLES],
            repository=request.to,
            version=request.version,
            method=request.method or "gradcam",
            precision=request.precision,
            calibration=data.get_split(others).pictures,
            validation=data.get_split("val") if request.calibrate else None,
            test=test,
            measured_on=SPLITS_IN_WORDS[measured],
            caution=VALIDATION_CAUTION if measured == "val" else "",
            maps=request.maps,
            unlike=request.unlike,
            familiarity=request.familiarity,
            history=history,
        )
    )


def check_options(request: CheckpointRequest, task: str) -> None:
    """Raise UserError for options that masks do not have."""
    given = {
        "--calibrate": request.calibrate,
        "--familiarity": request.familiarity,
        "--unlike": bool(request.unlike),
    }
    for name, asked in given.items():
        if asked and task == "segmentation":
            raise UserError(f"{name} is not offered for masks. Leave it out.")


def describe_training(config: Config, epoch: int, figures: dict[str, float]) -> dict[str, Any]:
    """The card's `training`: the data, the epoch of the weights, and the whole config."""
    fields = config.to_json().items()
    return {
        "data": config.source or config.data,
        "epochs": epoch,
        "seed": config.seed,
        "validation_accuracy": figures["val_accuracy"],
        **({"validation_miou": figures["val_miou"]} if "val_miou" in figures else {}),
        "config": {name: value for name, value in fields if name not in UNREPORTED_FIELDS},
    }
