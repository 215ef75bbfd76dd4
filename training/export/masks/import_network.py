"""Imports segmentation networks that were trained elsewhere: what a user's function returns."""

from pathlib import Path

import torch
from torch import nn

from training.config import DEFAULT_CACHE
from training.config_file import MAX_MASK_CLASSES
from training.data.mask_folder import MaskSplit, list_masked_pictures, read_masked_pictures
from training.errors import UserError
from training.export.import_network import (
    SAMPLES,
    ImportRequest,
    describe_network,
    resolve_input,
)
from training.export.labels import read_labels
from training.export.masks.pipeline import export_masks
from training.export.masks.request import DEFAULT_METHOD, MaskExportRequest
from training.imaging.preprocessing import Input
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, get_default_layer, return_logits
from training.networks.heads import remove_activation
from training.networks.trial import check_ending, count_logits
from training.networks.user_network import build_user_network
from training.networks.weight_files import read_state_dict
from training.networks.weights import load_into_network

WHOLE_PICTURE = Input(resize=None, crop=None)


def import_mask_network(request: ImportRequest) -> Path:
    """Build the network, load its weights and export it; returns the folder of the version.

    Raises:
        UserError: an argument is not valid, or does not match the network.
        CheckError: a check of the exported graph failed.
    """
    check_arguments(request)
    assert request.labels is not None
    labels = read_labels(request.labels)
    if not 2 <= len(labels) <= MAX_MASK_CLASSES:
        raise UserError(
            f"{request.labels} has {len(labels)} labels. Masks have 2 to {MAX_MASK_CLASSES}."
        )
    input_spec = resolve_input(request, WHOLE_PICTURE)
    model = build_mask_network(request, labels, input_spec)
    size = input_spec.height, input_spec.width, input_spec.channels
    return export_masks(
        MaskExportRequest(
            describe_network(request, labels, input_spec),
            model,
            layer=request.layer or get_default_layer(model.network),
            samples=generate_images(SAMPLES, *size),
            repository=request.to,
            version=request.version,
            method=request.method or DEFAULT_METHOD,
            precision=request.precision,
            test=load_test(request, labels, input_spec),
            measured_on=request.pictures_are
            or f"the pictures of {request.pictures}; whether it was trained on them is not known",
            unmeasured="it was imported without pictures and masks (--pictures)",
            maps=request.maps,
            private=request.private,
        )
    )


def check_arguments(request: ImportRequest) -> None:
    """Raise UserError for arguments that masks do not have, or lack."""
    if ":" not in request.architecture:
        raise UserError(
            f"--task segmentation takes package.module:function, got {request.architecture!r}. "
            "Write a function that returns the network."
        )
    if request.labels is None:
        raise UserError("Give the file of labels with --labels, one label per line.")
    for name, asked in {"--familiarity": request.familiarity, "--unlike": request.unlike}.items():
        if asked:
            raise UserError(f"{name} is not offered for masks. Leave it out.")


def build_mask_network(
    request: ImportRequest, labels: tuple[str, ...], input_spec: Input
) -> Classifier:
    """The network with its weights, in evaluation mode.

    Raises:
        UserError: the weights or the labels do not fit, or the network cannot be used.
    """
    name = request.architecture
    model = Classifier(input_spec, build_user_network(name, {}))
    if request.weights:
        load_into_network(model.network, read_state_dict(Path(request.weights)))
    return_logits(model.network)
    outputs = count_logits(name, input_spec, model, len(labels), masks=True)
    if outputs != len(labels):
        raise UserError(
            f"The network gives each pixel {outputs} logits, but there are {len(labels)} labels. "
            "Give as many labels as logits, the background among them."
        )
    image = torch.from_numpy(
        generate_images(1, input_spec.height, input_spec.width, input_spec.channels)
    )
    remove_activation(model, model.network, image, nn.Softmax2d)
    remove_activation(model, model.network, image, nn.Softmax)
    check_ending(name, input_spec, model)
    return model.eval()


def load_test(
    request: ImportRequest, labels: tuple[str, ...], input_spec: Input
) -> MaskSplit | None:
    """The user's pictures with masks, if any were given."""
    if request.pictures is None:
        return None
    pairs = list_masked_pictures(request.pictures)
    split, _ = read_masked_pictures(pairs, request.pictures, input_spec, len(labels), DEFAULT_CACHE)
    return split
