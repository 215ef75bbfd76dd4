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
from service.repository.engines.measurements import Measurement
from service.repository.golden import (
    GoldenPicture,
    Pictures,
    check_outputs,
    decode_golden_pictures,
    run_golden_tests,
)
from service.repository.memory import MEGABYTE, PeakMemory
from service.runtime.comparison import measure_speedup
from service.runtime.engine import COMPARE, ONNXRUNTIME, OPENVINO, Session
from service.runtime.opening import choose_batch_size, make_opener
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


def try_model_file(settings: Settings, path: Path, task: str = ONNXRUNTIME) -> bytes:
    """Validate the file and run it on the CPU.

    `task` is an engine, then the answer is for `unpack_trial`. Or it is `COMPARE`, then it is for
    `unpack_measurement`.

    Raises:
        InvalidArtifact: the file cannot be served; the message says why.
    """
    artifact, content = read_artifact(path)
    pictures = decode_golden_pictures(artifact)
    max_batch_size = choose_batch_size(settings, "cpu")
    if task == COMPARE:
        return compare_engines(artifact, content, pictures, max_batch_size)
    size = len(content)
    session = open_for_trial(content, artifact, task, min(count_cores(), MAX_THREADS))
    del content
    run_all_batches(session, artifact, pictures, max_batch_size)
    header = {
        "size": size,
        "sha256": artifact.sha256,
        "map_shape": artifact.map_shape,
        "is_steady": artifact.is_steady,
    }
    served = artifact.card.model_copy(update=UNSERVED)
    lines = (to_json(header), to_json(served, by_alias=True), artifact.public_card)
    arrays = (array for picture in pictures for array in picture if array is not None)
    return b"\n".join((*lines, b"".join(array.tobytes() for array in arrays)))


def open_for_trial(content: bytes, artifact: Artifact, engine: str, threads: int) -> Session:
    """Open a session of that engine on the CPU."""
    return make_opener(content, artifact, "cpu", engine)(threads, 1)


def compare_engines(
    artifact: Artifact, content: bytes, pictures: Pictures, max_batch_size: int
) -> bytes:
    """Try a file that onnxruntime can serve in OpenVINO, and measure both on one thread."""
    try:
        fast = open_for_trial(content, artifact, OPENVINO, 1)
        run_all_batches(fast, artifact, pictures, max_batch_size)
    except InvalidArtifact as exc:
        # Without the path, because the next start may find the same file elsewhere.
        return to_json(Measurement(None, str(exc).replace(str(artifact.path), "The file")))
    slow = open_for_trial(content, artifact, ONNXRUNTIME, 1)
    return to_json(Measurement(measure_speedup(fast, slow, artifact, max_batch_size)))


def unpack_measurement(answer: bytes) -> Measurement:
    """Return what comparing both engines gave."""
    return Measurement(*from_json(answer))


def unpack_trial(path: Path, answer: bytes) -> TriedModel:
    """Return what `try_model_file` found out about a file."""
    header_line, card_line, public_card, content = answer.split(b"\n", 3)
    header, card = from_json(header_line), Card.model_validate_json(card_line)
    height, width = header["map_shape"]
    facts = (header["sha256"], card, public_card, (height, width), header["is_steady"])
    artifact = Artifact(path, *facts)
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
    session: Session, artifact: Artifact, pictures: Pictures, max_batch_size: int
) -> None:
    """Run the golden tests, then each kind of batch, and compare the memory that they take.

    A row's outputs depend on that row alone. So the memory of a batch is at most the memory of one
    row for each of its rows and targets, and what the session needs anyway.

    Raises:
        InvalidArtifact: a run fails, its outputs are wrong, or its memory grows by more than that.
    """
    peak = PeakMemory()
    try:
        run_golden_tests(artifact, pictures, session.run, session.engine.precision)
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
    except Exception as exc:  # the engines' exceptions have no common base class
        raise InvalidArtifact(f"{artifact.path} cannot be run: {exc}") from None


def list_batches(artifact: Artifact, max_batch_size: int) -> list[tuple[int, int]]:
    """Return the largest batches that the queue makes: how many rows, with how many targets each.

    If each target has a region, rows with more targets are fewer.
    """
    batches = [(max_batch_size, 1), (max_batch_size, 0)]
    if artifact.card.segments:
        return [*batches, (1, TARGETS_AND_BASELINES)]
    return [*batches, (max_batch_size, MAX_TARGETS)]
