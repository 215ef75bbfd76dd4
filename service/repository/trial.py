"""The trial of a model file: all that must not happen in the worker before the file is known.

`try_model_file` runs in the sandbox. It validates the file, decodes its golden pictures and runs
every kind of batch that the worker will run. What it found out goes to the worker as bytes, so that
the worker itself never parses the file.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json, to_json

from service.artifact.card import Artifact, Card, InvalidArtifact
from service.artifact.validation import read_artifact
from service.machine import count_cores
from service.parameters import MAX_TARGETS
from service.repository.golden import (
    GoldenPicture,
    Pictures,
    check_outputs,
    decode_golden_pictures,
    run_golden_tests,
)
from service.repository.memory import MEGABYTE, PeakMemory
from service.runtime.session import OnnxSession, choose_batch_size
from service.settings import Settings

MAX_THREADS = 2  # more would slow down what is served meanwhile
SPARE_BYTES = 256 * MEGABYTE  # that any batch may take
TARGETS_AND_BASELINES = 2 * MAX_TARGETS  # each with the class that it is compared with
# What the worker needs of these is in the public card. As objects they may take 50 times as much.
UNSERVED: dict[str, Any] = {
    "training": {},
    "metrics": None,
    "checks": {},
    "tools": {},
    "examples": [],
}
SPARE_FACTOR = 2  # for what is left between the pieces of memory that a run takes


class TriedModel(NamedTuple):
    """What the trial of a file found out."""

    artifact: Artifact
    size: int  # bytes of the file
    pictures: Pictures  # of the golden tests


def try_model_file(settings: Settings, path: Path) -> bytes:
    """Validate the file, run it on the CPU, and return what `unpack_trial` reads.

    Raises:
        InvalidArtifact: the file cannot be served; the message says why.
    """
    artifact, content = read_artifact(path)
    size = len(content)
    pictures = decode_golden_pictures(artifact)
    session = OnnxSession(content, artifact, "cpu", min(count_cores(), MAX_THREADS))
    del content
    run_all_batches(session, artifact, pictures, choose_batch_size(settings, "cpu"))
    header = {"size": size, "sha256": artifact.sha256, "map_shape": artifact.map_shape}
    served = artifact.card.model_copy(update=UNSERVED)
    lines = (to_json(header), to_json(served, by_alias=True), artifact.public_card)
    arrays = (array for picture in pictures for array in picture if array is not None)
    return b"\n".join((*lines, b"".join(array.tobytes() for array in arrays)))


def unpack_trial(path: Path, answer: bytes) -> TriedModel:
    """Return what `try_model_file` found out about a file."""
    header_line, card_line, public_card, content = answer.split(b"\n", 3)
    header, card = from_json(header_line), Card.model_validate_json(card_line)
    height, width = header["map_shape"]
    artifact = Artifact(path, header["sha256"], card, public_card, (height, width))
    spec = card.input
    planes = spec.channels + card.segments  # after the pixels comes the mask
    size = spec.height * spec.width
    pictures = []
    for both in np.frombuffer(content, np.uint8).reshape(len(card.golden), size * planes):
        pixels = both[: size * spec.channels].reshape(spec.height, spec.width, spec.channels)
        mask = both[pixels.size :].reshape(spec.height, spec.width) if card.segments else None
        pictures.append(GoldenPicture(pixels, mask))
    return TriedModel(artifact, header["size"], pictures)


def run_all_batches(
    session: OnnxSession, artifact: Artifact, pictures: Pictures, max_batch_size: int
) -> None:
    """Run the golden tests, then each kind of batch, and compare the memory that they take.

    A row's outputs depend on that row alone. So the memory of a batch is at most the memory of one
    row for each of its rows and targets, and what the session needs anyway.

    Raises:
        InvalidArtifact: a run fails, its outputs are wrong, or its memory grows by more than that.
    """
    peak = PeakMemory()
    try:
        run_golden_tests(artifact, pictures, session.run)
        check_outputs(session.run(*artifact.make_batch(1, 0)), artifact, 1, 0)
        one = peak.measure()
        for rows, targets in list_batches(artifact, max_batch_size):
            outputs = session.run(*artifact.make_batch(rows, targets))
            check_outputs(outputs, artifact, rows, targets)
            share = SPARE_FACTOR * rows * max(targets, 1) * one
            if (taken := peak.measure()) > share + SPARE_BYTES:
                raise InvalidArtifact(
                    f"{artifact.path} takes {taken // MEGABYTE} MB of memory for "
                    f"{rows} images with {targets} targets each, but "
                    f"{one // MEGABYTE} MB for one: each image must be computed alone."
                )
    except (InvalidArtifact, MemoryError):
        raise
    except Exception as exc:  # onnxruntime's exceptions have no common base class
        raise InvalidArtifact(f"{artifact.path} cannot be run: {exc}") from None


def list_batches(artifact: Artifact, max_batch_size: int) -> list[tuple[int, int]]:
    """Return the largest batches that the queue makes: how many rows, with how many targets each.

    If each target has a region, rows with more targets are fewer.
    """
    batches = [(max_batch_size, 1), (max_batch_size, 0)]
    if artifact.card.segments:
        return [*batches, (1, TARGETS_AND_BASELINES)]
    return [*batches, (max_batch_size, MAX_TARGETS)]
