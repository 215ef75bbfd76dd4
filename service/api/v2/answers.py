"""What an answer has: how many bytes it takes, and the tensors that are made of the rows."""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.api.v2.outputs import OutputTensor, Texts
from service.api.v2.schemas import InferCall, WantedOutput
from service.api.v2.signature import MAP, MASK, PROBABILITIES, SCORES
from service.artifact.card import FAMILIARITY
from service.inference.results import rank
from service.repository.model import Model
from service.runtime.row import AnyAnswer

VALUES_PER_CLASS = 10  # a formatted text takes as long as so many numbers
CLASSES_AT_ONCE = 2000
# What an answer takes, from the rows to the body, with the same compressed.
FLOAT_BYTES = 4
BINARY_COPIES = 4
FLOAT_TEXT_BYTES = 64
MASK_TEXT_BYTES = 12
CLASS_BYTES = 80  # of a class as text, besides its label
LABEL_COPIES = 3


def count_values(wanted: list[WantedOutput], answers: Sequence[AnyAnswer]) -> int:
    """Return how many values the outputs have; a class in text counts as the numbers it costs."""
    total = 0
    for output in wanted:
        count = output.parameters.classification
        for answer in answers:
            values: NDArray[np.float32] | np.float32 = getattr(answer, output.name)
            total += values.size + min(count, values.size) * VALUES_PER_CLASS
    return total


def count_answer_bytes(
    wanted: Sequence[WantedOutput],
    targets: Sequence[Sequence[object]],
    model: Model,
    is_binary: bool,
) -> int:
    """Return the bytes that the answers take, from the rows to the body.

    `is_binary` is for the outputs that do not say. The rows of a model that classifies have all
    outputs, whatever is wanted.
    """
    rows, labels = len(targets), len(model.labels)
    size = model.artifact.card.input
    pixels = rows * size.width * size.height
    maps = sum(map(len, targets)) * prod(model.artifact.map_shape)
    counts = dict.fromkeys(SCORES, rows * labels) | {FAMILIARITY: rows, MAP: maps, MASK: pixels}
    if model.segments:
        counts[PROBABILITIES] = labels * pixels
    total = 0 if model.segments else FLOAT_BYTES * (2 * rows * labels + maps)
    for output in wanted:
        count, binary = counts[output.name], output.parameters.binary_data
        classes = min(output.parameters.classification, labels)
        if classes:
            text = LABEL_COPIES * model.label_index.count_bytes(classes)
            total += rows * (CLASS_BYTES * classes + text)
        elif is_binary if binary is None else binary:
            total += BINARY_COPIES * count * (1 if output.name == MASK else FLOAT_BYTES)
        else:
            total += count * (MASK_TEXT_BYTES if output.name == MASK else FLOAT_TEXT_BYTES)
    return total


def make_outputs(
    call: InferCall, wanted: list[WantedOutput], answers: Sequence[AnyAnswer], labels: list[str]
) -> list[OutputTensor]:
    """Return the requested outputs of all rows, in JSON or binary as requested."""
    outputs = []
    for output in wanted:
        rows = [getattr(answer, output.name) for answer in answers]
        count = min(output.parameters.classification, len(labels))
        values: Any
        if count:
            values = Texts((len(rows), count), _format_rows(rows, count, labels))
        else:
            values = np.stack(rows)  # (N, …)
        is_binary = output.parameters.binary_data
        if is_binary is None:
            is_binary = call.parameters.binary_data_output
        outputs.append(OutputTensor(output.name, values, is_binary))
    return outputs


def _format_rows(
    rows: Sequence[NDArray[np.float32]], count: int, labels: list[str]
) -> Iterator[list[str]]:
    """Yield the classes of all rows as texts, some at a time."""
    for row in rows:
        order = rank(row)[:count]
        for start in range(0, count, CLASSES_AT_ONCE):
            yield format_classes(row, order[start : start + CLASSES_AT_ONCE], labels)


def format_classes(
    values: NDArray[np.float32], order: NDArray[np.intp], labels: list[str]
) -> list[str]:
    """Return classes of one row's `values` (K,) as Triton does: `value:index:label`."""
    ordered = zip(values[order].tolist(), order.tolist(), strict=True)
    return [f"{value:.6f}:{index}:{labels[index]}" for value, index in ordered]
