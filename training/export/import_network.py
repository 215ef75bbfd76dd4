"""Imports networks that were trained elsewhere: torchvision's, timm's and the user's own."""

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from training.artifact.card import ModelInfo
from training.data.datasets import Split, load_split
from training.data.image_folder import list_labelled_pictures
from training.errors import UserError
from training.evaluate.explanations import DEFAULT_MAPS
from training.export.pipeline import export_model
from training.imaging.preprocessing import Input
from training.imaging.synthetic import generate_images
from training.networks.classifier import (
    Classifier,
    build_classifier,
    get_default_layer,
    make_unknown_error,
)
from training.networks.timm_zoo import get_timm_input
from training.networks.torchvision_zoo import (
    download_torchvision_weights,
    get_imagenet_labels,
    get_torchvision_input,
    list_torchvision_names,
)
from training.networks.weights import load_into_network, read_state_dict


@dataclass(frozen=True)
class ImportRequest:
    """The arguments of the command `import`. None stands for the architecture's default."""

    architecture: str
    weights: str | None
    labels: Path | None
    size: int | None
    resize: int | None
    mean: list[float] | None
    std: list[float] | None
    task: str
    pictures: Path | None
    origin: str
    license: str
    to: Path
    name: str | None
    version: int | None
    layer: str | None
    precision: str
    maps: int = DEFAULT_MAPS
    pictures_are: str = ""
    private: bool = False


def import_network(request: ImportRequest) -> Path:
    """Build the network, load its weights and export it; returns the folder of the version.

    Raises:
        UserError: an argument is not valid, or does not match the network.
        CheckError: a check of the exported graph failed.
    """
    known = request.architecture in list_torchvision_names()
    if not known and ":" not in request.architecture:
        raise make_unknown_error(request.architecture)
    name = request.architecture.removeprefix("timm:")
    timm = name != request.architecture
    default = get_torchvision_input(name) if known else get_timm_input(name) if timm else Input()
    input_spec = resolve_input(request, default)
    if request.labels:
        labels = read_labels(request.labels)
    elif known:
        labels = get_imagenet_labels(request.architecture)
    else:
        raise UserError("Give the file of labels with --labels, one label per line.")
    options = {"pretrained": True} if timm and not request.weights else {}
    model = build_classifier(request.architecture, len(labels), input_spec, options)
    if request.weights:
        load_into_network(model.network, read_state_dict(Path(request.weights)))
    elif known:
        load_into_network(model.network, download_torchvision_weights(request.architecture))
    model.eval()
    outputs = count_outputs(model, input_spec)
    if outputs != len(labels):
        raise UserError(
            f"The network has {outputs} outputs, but there are {len(labels)} labels. "
            "Give as many labels as outputs."
        )
    test = load_labelled_split(request.pictures, labels, input_spec) if request.pictures else None
    calibration = None
    if (
        test is not None and request.precision == "int8"
    ):  # not measured on the pictures of the calibration
        odd = np.arange(len(test)) % 2 == 1
        test, calibration = test.select(~odd), test.select(odd).pictures
    samples = generate_images(32, input_spec.height, input_spec.width, input_spec.channels)
    about = ModelInfo(
        request.name or re.sub(r"[^a-z0-9._-]+", "-", request.architecture.lower().split(":")[-1]),
        request.architecture,
        labels,
        input_spec,
        request.task,
        request.license,
        {
            "imported": True,
            "origin": request.origin or Path(request.weights or "torchvision's weights").name,
            "preprocessing": {"mean": list(input_spec.mean), "std": list(input_spec.std)},
        },
    )
    return export_model(
        about,
        model,
        request.layer or get_default_layer(model.network),
        samples,
        request.to,
        test,
        "nothing was measured: it was imported without labelled pictures (--pictures)",
        version=request.version,
        precision=request.precision,
        calibration=calibration,
        measured_on=request.pictures_are
        or f"the pictures of {request.pictures}; whether it was trained on them is not known",
        maps=request.maps,
        private=request.private,
    )


def resolve_input(request: ImportRequest, default: Input) -> Input:
    """The network's input: the architecture's, with the user's arguments in its place."""
    size = request.size or default.height
    resize = default.resize
    if request.size and default.resize:
        resize = round(default.resize * request.size / default.height)
    if request.resize is not None:
        resize = request.resize or None
    mean, std = (
        tuple(v) if v else o for v, o in ((request.mean, default.mean), (request.std, default.std))
    )
    if len(mean) != len(std) or len(mean) not in (1, 3):
        raise UserError("--mean and --std must both have one number (gray) or three numbers (RGB).")
    return dataclasses.replace(
        default,
        mode="L" if len(mean) == 1 else "RGB",
        height=size,
        width=size,
        resize=resize,
        crop="center" if resize else None,
        mean=mean,
        std=std,
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels: one per line, or tab-separated lines of index, id and label.

    Raises:
        UserError: the file is not readable, or a label appears twice.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable file of labels in UTF-8: {error}.") from error
    rows = [line.split("\t") for line in lines if line.strip()]
    if rows and rows[0][0].strip().lower() == "index":
        rows = rows[1:]
    if rows and all(len(row) > 1 and row[0].isdigit() for row in rows):
        rows.sort(key=lambda row: int(row[0]))
    labels = tuple(row[-1].strip() for row in rows)
    duplicate = next((label for label in labels if labels.count(label) > 1), None)
    if duplicate is not None:
        raise UserError(
            f"{path} has the label {duplicate!r} more than once. All labels must differ."
        )
    return labels


def load_labelled_split(folder: Path, labels: tuple[str, ...], input_spec: Input) -> Split:
    """Load a folder with a subfolder of pictures per label."""
    rows = list_labelled_pictures(folder)
    unknown = sorted({label for _, label in rows} - set(labels))
    if unknown:
        raise UserError(
            f"{folder} has subfolders that are not labels of the model: {', '.join(unknown[:5])}."
        )
    return load_split(rows, labels, input_spec)


@torch.no_grad()
def count_outputs(model: Classifier, input_spec: Input) -> int:
    """The number of the network's logits; raises UserError if it does not return (N, K)."""
    try:
        shape = model(
            torch.zeros(2, input_spec.height, input_spec.width, input_spec.channels)
        ).shape
    except (RuntimeError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"The network does not run on pictures of {input_spec.height} x {input_spec.width}: "
            f"{error}"
        ) from error
    if len(shape) != 2:
        raise UserError(
            f"The network must return logits of shape (N, K), it returned {tuple(shape)}."
        )
    return int(shape[1])
