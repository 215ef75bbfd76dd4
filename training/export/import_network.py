"""Networks trained elsewhere become artefacts: torchvision's, timm's, and the user's own."""

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
    """The command's arguments; None is whatever the architecture says itself."""

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
    """Build the network, fill it, export it; returns the artefact's folder."""
    known = request.architecture in list_torchvision_names()
    if not known and ":" not in request.architecture:
        raise make_unknown_error(request.architecture)
    name = request.architecture.removeprefix("timm:")
    timm = name != request.architecture
    own = get_torchvision_input(name) if known else get_timm_input(name) if timm else Input()
    wanted = resolve_input(request, own)
    if request.labels:
        labels = read_labels(request.labels)
    elif known:
        labels = get_imagenet_labels(request.architecture)
    else:
        raise UserError("--labels names the file with the labels, a name a line.")
    options = {"pretrained": True} if timm and not request.weights else {}
    model = build_classifier(request.architecture, len(labels), wanted, options)
    if request.weights:
        load_into_network(model.network, read_state_dict(Path(request.weights)))
    elif known:
        load_into_network(model.network, download_torchvision_weights(request.architecture))
    model.eval()
    outputs = count_outputs(model, wanted)
    if outputs != len(labels):
        raise UserError(f"The network has {outputs} outputs and there are {len(labels)} labels.")
    test = load_labelled_split(request.pictures, labels, wanted) if request.pictures else None
    calibration = None
    if test is not None and request.precision == "int8":  # never measured on the same
        odd = np.arange(len(test)) % 2 == 1
        test, calibration = test.select(~odd), test.select(odd).pictures
    samples = generate_images(32, wanted.height, wanted.width, wanted.channels)
    about = ModelInfo(
        request.name or re.sub(r"[^a-z0-9._-]+", "-", request.architecture.lower().split(":")[-1]),
        request.architecture,
        labels,
        wanted,
        request.task,
        request.license,
        {
            "imported": True,
            "origin": request.origin or Path(request.weights or "torchvision's weights").name,
            "preprocessing": {"mean": list(wanted.mean), "std": list(wanted.std)},
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


def resolve_input(request: ImportRequest, own: Input) -> Input:
    """What the network takes, with what the user said in place of the architecture's own."""
    size = request.size or own.height
    resize = own.resize
    if request.size and own.resize:
        resize = round(own.resize * request.size / own.height)
    if request.resize is not None:
        resize = request.resize or None
    mean, std = (
        tuple(v) if v else o for v, o in ((request.mean, own.mean), (request.std, own.std))
    )
    if len(mean) != len(std) or len(mean) not in (1, 3):
        raise UserError("--mean and --std take one number each (gray) or three (RGB).")
    return dataclasses.replace(
        own,
        mode="L" if len(mean) == 1 else "RGB",
        height=size,
        width=size,
        resize=resize,
        crop="center" if resize else None,
        mean=mean,
        std=std,
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """A name a line, or lines of index, id and name by tabs; no name twice."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"{path} can't be read as labels in UTF-8: {fault}.") from fault
    rows = [line.split("\t") for line in lines if line.strip()]
    if rows and rows[0][0].strip().lower() == "index":
        rows = rows[1:]
    if rows and all(len(row) > 1 and row[0].isdigit() for row in rows):
        rows.sort(key=lambda row: int(row[0]))
    labels = tuple(row[-1].strip() for row in rows)
    double = next((label for label in labels if labels.count(label) > 1), None)
    if double is not None:
        raise UserError(f"{path} has {double!r} twice; every label needs a name of its own.")
    return labels


def load_labelled_split(folder: Path, labels: tuple[str, ...], wanted: Input) -> Split:
    """A folder of pictures by label, as what the network takes."""
    rows = list_labelled_pictures(folder)
    unknown = sorted({label for _, label in rows} - set(labels))
    if unknown:
        raise UserError(f"{folder} has labels that the model has not: {', '.join(unknown[:5])}.")
    return load_split(rows, labels, wanted)


@torch.no_grad()
def count_outputs(model: Classifier, wanted: Input) -> int:
    """How many logits the network gives; a network that gives none is refused."""
    try:
        shape = model(torch.zeros(2, wanted.height, wanted.width, wanted.channels)).shape
    except (RuntimeError, TypeError, AttributeError, ValueError) as fault:
        raise UserError(
            f"The network doesn't run on pictures of {wanted.height} x {wanted.width}: {fault}"
        ) from fault
    if len(shape) != 2:
        raise UserError(f"The network gives a result of shape {tuple(shape)}, not (N, K) logits.")
    return int(shape[1])
