"""A model's inputs and outputs, and the check of a request against them.

This module knows names, datatypes, shapes and the range of targets. It does not know how tensors
are encoded (see `tensors`), and nothing of HTTP or queues.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.v2.outputs import OutputTensor
from service.api.v2.schemas import (
    InferCall,
    InputTensor,
    TensorConfig,
    TensorMetadata,
    WantedOutput,
)
from service.api.v2.segmentation import REGION, REGION_SIZE
from service.api.v2.tensors import BYTES, read_array, read_elements
from service.artifact.card import FAMILIARITY, TOP_1
from service.errors import BadRequest, excerpt
from service.inference.results import check_label_index, rank
from service.parameters import MAX_BATCH_IMAGES, MAX_TARGETS
from service.repository.model import Model
from service.runtime.row import AnyAnswer

IMAGE, TARGET = "image", "target"
PROBABILITIES = "probabilities"
SCORES = ("logits", PROBABILITIES)  # one value per label, as needed for classification
MAP = "cam"
VALUES_PER_CLASS = 10  # a formatted text takes as long as so many numbers
Image = bytes | NDArray[np.uint8]  # an encoded picture, or pixels (H, W, C)
Signature = dict[str, tuple[str, list[int]]]  # datatype and shape by name; -1 means any size


def describe_inputs(model: Model) -> Signature:
    """Describe each input; the first size is N."""
    size = model.artifact.card.input
    signature: Signature = {
        IMAGE: ("UINT8", [-1, size.height, size.width, size.channels]),
        TARGET: ("INT64", [-1, -1]),
    }
    return signature | {REGION: ("INT64", [-1, -1, REGION_SIZE])} if model.segments else signature


def describe_outputs(model: Model) -> Signature:
    """Describe each output; the first size is N."""
    maps = ("FP32", [-1, -1, *model.artifact.map_shape])
    if model.segments:
        size = model.artifact.card.input
        pixels = [size.height, size.width]
        return {
            "mask": ("UINT8", [-1, *pixels]),
            PROBABILITIES: ("FP32", [-1, len(model.labels), *pixels]),
            MAP: maps,
        }
    scores = ("FP32", [-1, len(model.labels)])
    signature: Signature = {
        **dict.fromkeys(SCORES, scores),
        MAP: maps,
        FAMILIARITY: ("FP32", [-1]),
    }
    return {name: signature[name] for name in model.artifact.card.outputs}


def list_metadata(tensors: Signature) -> list[TensorMetadata]:
    """List tensors as the protocol describes them."""
    return [
        {"name": name, "datatype": datatype, "shape": shape}
        for name, (datatype, shape) in tensors.items()
    ]


def list_config(tensors: Signature) -> list[TensorConfig]:
    """List tensors as a Triton configuration describes them: without N."""
    return [
        {"name": name, "data_type": f"TYPE_{datatype}", "dims": shape[1:]}
        for name, (datatype, shape) in tensors.items()
    ]


def read_inputs(call: InferCall, model: Model) -> dict[str, InputTensor]:
    """Return the inputs by name.

    Raises:
        BadRequest: An input is unknown, missing or given twice.
    """
    known = tuple(describe_inputs(model))
    _check_names("input", [tensor.name for tensor in call.inputs], known)
    tensors = {tensor.name: tensor for tensor in call.inputs}
    if IMAGE not in tensors:
        raise BadRequest(f"The input '{IMAGE}' is missing: send it as UINT8 or {BYTES}.")
    if REGION in tensors and TARGET not in tensors:
        raise BadRequest(f"The input '{REGION}' needs the input '{TARGET}': send both.")
    return tensors


def read_outputs(call: InferCall, model: Model) -> list[WantedOutput]:
    """Return the requested outputs, or all but probabilities for each pixel.

    Raises:
        BadRequest: An output is unknown or given twice, or has no classes.
    """
    known = model.artifact.card.outputs
    _check_names("output", [wanted.name for wanted in call.outputs], known)
    for wanted in call.outputs:
        if wanted.parameters.classification and (model.segments or wanted.name not in SCORES):
            advice = (
                f"leave 'classification' out, because '{model.name}' segments"
                if model.segments
                else f"use 'classification' with {' or '.join(SCORES)}"
            )
            raise BadRequest(f"The output '{wanted.name}' has no classes: {advice}.")
    hidden = PROBABILITIES if model.segments else None
    return call.outputs or [WantedOutput(name=name) for name in known if name != hidden]


def read_images(tensor: InputTensor, model: Model, max_bytes: int) -> Sequence[Image]:
    """Return N images: pixels [N, H, W, C], or encoded files as BYTES [N] or [N, 1].

    Raises:
        BadRequest: The datatype, the shape or the number of values is wrong.
        PayloadTooLarge: An encoded file has more than `max_bytes` bytes.
    """
    datatype, wanted = describe_inputs(model)[IMAGE]
    sizes = tensor.shape[1:]
    if tensor.datatype == BYTES:
        fits = bool(tensor.shape) and sizes in ([], [1])
    else:
        fits = tensor.datatype == datatype and sizes == wanted[1:]
    if not fits or not 1 <= tensor.shape[0] <= MAX_BATCH_IMAGES:
        raise BadRequest(
            f"The input '{IMAGE}' of '{model.name}' must be {datatype} of shape "
            f"{['N', *wanted[1:]]} or {BYTES} of shape ['N'], with N from 1 to "
            f"{MAX_BATCH_IMAGES}, got {excerpt(tensor.datatype)} of shape {tensor.shape}.".replace(
                "'N'", "N"
            )
        )
    if tensor.datatype == BYTES:
        return read_elements(tensor, max_bytes)
    return list(read_array(tensor))  # N times (H, W, C)


def read_targets(tensor: InputTensor | None, rows: int, model: Model) -> list[list[int]]:
    """Return the class indices to explain for each row; empty if the input is left out.

    Raises:
        BadRequest: The datatype or the shape is wrong.
        UnknownLabel: The model has no such index.
    """
    if tensor is None:
        return [[]] * rows
    datatype = "INT64"
    shape = tensor.shape
    fits = len(shape) == 2 and shape[0] == rows and shape[1] <= MAX_TARGETS
    if tensor.datatype != datatype or not fits:
        raise BadRequest(
            f"The input '{TARGET}' for {rows} images must be {datatype} of shape [{rows}, T], with "
            f"T at most {MAX_TARGETS}, got {excerpt(tensor.datatype)} of shape {shape}."
        )
    targets = read_array(tensor)  # (N, T)
    for index in np.unique(targets).tolist():
        if index != TOP_1:
            check_label_index(index, model)
    indices: list[list[int]] = targets.tolist()
    return indices


def count_values(wanted: list[WantedOutput], answers: Sequence[AnyAnswer]) -> int:
    """Return how many values the outputs have; a class in text counts as the numbers it costs."""
    total = 0
    for output in wanted:
        count = output.parameters.classification
        for answer in answers:
            values: NDArray[np.float32] | np.float32 = getattr(answer, output.name)
            total += values.size + min(count, values.size) * VALUES_PER_CLASS
    return total


def make_outputs(
    call: InferCall, wanted: list[WantedOutput], answers: Sequence[AnyAnswer], labels: list[str]
) -> list[OutputTensor]:
    """Return the requested outputs of all rows, in JSON or binary as requested."""
    outputs = []
    for output in wanted:
        values: Any = np.stack([getattr(answer, output.name) for answer in answers])  # (N, …)
        count = output.parameters.classification
        if count:
            values = [format_classes(row, count, labels) for row in values]
        is_binary = output.parameters.binary_data
        if is_binary is None:
            is_binary = call.parameters.binary_data_output
        outputs.append(OutputTensor(output.name, values, is_binary))
    return outputs


def format_classes(values: NDArray[np.float32], count: int, labels: list[str]) -> list[str]:
    """Return the highest of one row's `values` (K,) as Triton does: `value:index:label`."""
    order = rank(values)[:count]
    highest = zip(values[order].tolist(), order.tolist(), strict=True)
    return [f"{value:.6f}:{index}:{labels[index]}" for value, index in highest]


def _check_names(kind: str, names: list[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise BadRequest(f"There is no {kind} '{excerpt(name)}': use {', '.join(known)}.")
        if names.count(name) > 1:
            raise BadRequest(
                f"The {kind} '{excerpt(name)}' was given {names.count(name)} times: give it once."
            )
