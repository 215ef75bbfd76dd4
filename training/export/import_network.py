"""Imports networks that were trained elsewhere: torchvision's, timm's and the user's own."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from training.artifact.card import ModelInfo
from training.artifact.introduction import IntroductionRequest, make_introduction
from training.errors import UserError
from training.evaluate.explanations import DEFAULT_MAPS
from training.export.labels import load_labelled_split, read_labels
from training.export.pipeline import export_model
from training.export.request import CALIBRATED, ExportRequest
from training.imaging.preprocessing import Input, Interpolation
from training.imaging.synthetic import generate_images
from training.networks.classifier import (
    Classifier,
    build_classifier,
    get_default_input,
    get_default_layer,
    make_unknown_error,
    split_neuron,
)
from training.networks.heads import remove_activation
from training.networks.timm_zoo import TIMM_PREFIX
from training.networks.torchvision_zoo import (
    download_torchvision_weights,
    get_imagenet_labels,
    list_torchvision_names,
)
from training.networks.trial import check_ending, count_logits
from training.networks.weight_files import read_state_dict
from training.networks.weights import load_into_network

SAMPLES = 32  # generated pictures for the checks and golden tests


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
    method: str | None = None
    interpolation: Interpolation | None = None
    maps: int = DEFAULT_MAPS
    pictures_are: str = ""
    unlike: Sequence[str] = ()
    familiarity: bool = False
    private: bool = False
    introduction: IntroductionRequest | None = None


def import_network(request: ImportRequest) -> Path:
    """Build the network, load its weights and export it; returns the folder of the version.

    Raises:
        UserError: an argument is not valid, or does not match the network.
        CheckError: a check of the exported graph failed.
    """
    check_architecture(request.architecture)
    input_spec = resolve_input(request, get_default_input(request.architecture))
    labels = resolve_labels(request)
    model = build_network(request, labels, input_spec)
    test = load_labelled_split(request.pictures, labels, input_spec) if request.pictures else None
    calibration = None
    if test is not None and (request.precision in CALIBRATED or request.familiarity):
        # Nothing is measured on the pictures that calibrate.
        odd = np.arange(len(test)) % 2 == 1
        test, calibration = test.select(~odd), test.select(odd).pictures
    return export_model(
        ExportRequest(
            describe_network(request, labels, input_spec),
            model,
            layer=request.layer or get_default_layer(model.network),
            samples=generate_images(
                SAMPLES, input_spec.height, input_spec.width, input_spec.channels
            ),
            repository=request.to,
            version=request.version,
            method=request.method or "gradcam",
            precision=request.precision,
            calibration=calibration,
            test=test,
            measured_on=request.pictures_are
            or f"the pictures of {request.pictures}; whether it was trained on them is not known",
            unmeasured="it was imported without labelled pictures (--pictures)",
            maps=request.maps,
            unlike=request.unlike,
            familiarity=request.familiarity,
            private=request.private,
        )
    )


def check_architecture(architecture: str) -> None:
    """Raise UserError if no such architecture is known and it does not name a function."""
    if architecture not in list_torchvision_names() and ":" not in architecture:
        raise make_unknown_error(architecture)


def resolve_labels(request: ImportRequest) -> tuple[str, ...]:
    """The labels of the user's file, or those of ImageNet for a torchvision architecture."""
    if request.labels:
        return read_labels(request.labels)
    if request.architecture in list_torchvision_names():
        return get_imagenet_labels(request.architecture)
    raise UserError("Give the file of labels with --labels, one label per line.")


def build_network(request: ImportRequest, labels: tuple[str, ...], input_spec: Input) -> Classifier:
    """The network with its weights, in evaluation mode.

    Raises:
        UserError: the weights or the labels do not fit, or the network cannot be used.
    """
    architecture = request.architecture
    timm = architecture.startswith(TIMM_PREFIX)
    options = {"pretrained": True} if timm and not request.weights else {}
    model = build_classifier(architecture, len(labels), input_spec, options)
    if request.weights:
        load_into_network(model.network, read_state_dict(Path(request.weights)))
    elif architecture in list_torchvision_names():
        load_into_network(model.network, download_torchvision_weights(architecture))
    adapt_outputs(architecture, model, request.task, len(labels), input_spec)
    return model


def adapt_outputs(name: str, model: Classifier, task: str, labels: int, input_spec: Input) -> None:
    """Make a network return one logit per label where that is exact.

    A softmax or sigmoid that is its last layer is left out, because the graph computes it from the
    logits. One neuron for two labels becomes two logits.

    Raises:
        UserError: the number of outputs is not that of the labels, or they are no logits.
    """
    outputs = count_logits(name, input_spec, model)
    binary = task == "multiclass" and (outputs, labels) == (1, 2)
    if outputs != labels and not binary:
        wanted = "two labels for one output" if outputs == 1 else "as many labels as outputs"
        raise UserError(
            f"The network has {outputs} output{'s' * (outputs > 1)}, but there are {labels} "
            f"labels. Give {wanted}."
        )
    if task == "multiclass" and labels == 1:
        raise UserError(
            "The network has one output and one label, so it answers the same to every picture. "
            "Give two labels, first the one of output 0, or --task multilabel."
        )
    image = torch.from_numpy(
        generate_images(1, input_spec.height, input_spec.width, input_spec.channels)
    )
    activation = nn.Sigmoid if binary or task == "multilabel" else nn.Softmax
    remove_activation(model, model.network, image, activation)
    check_ending(name, input_spec, model)
    if binary:
        split_neuron(model, image)


def describe_network(
    request: ImportRequest, labels: tuple[str, ...], input_spec: Input
) -> ModelInfo:
    """What is known of the network, for its card."""
    last = request.architecture.lower().split(":")[-1]
    return ModelInfo(
        name=request.name or re.sub(r"[^a-z0-9._-]+", "-", last),
        architecture=request.architecture,
        labels=labels,
        input=input_spec,
        task=request.task,
        license=request.license,
        training={
            "imported": True,
            "origin": request.origin or Path(request.weights or "torchvision's weights").name,
            "preprocessing": {"mean": list(input_spec.mean), "std": list(input_spec.std)},
        },
        introduction=make_introduction(request.introduction, labels),
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
        interpolation=request.interpolation or default.interpolation,
        mean=mean,
        std=std,
    )
