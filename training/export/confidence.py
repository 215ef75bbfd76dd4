"""Measures when answers of an exported graph should be doubted, and extends the graph if asked.

The held-out pictures set the thresholds. Other pictures, unlike the model's, show what `unfamiliar`
notices: folders that the user names, or else generated pictures.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from training.config import resolve_path
from training.data.datasets import Split
from training.data.picture_files import list_pictures
from training.errors import CheckError, UserError
from training.evaluate.confidence import Outputs, describe_confidence, measure_confidence
from training.graph.familiarity import (
    add_familiarity,
    fit_gaussian,
    pool_features,
    remove_familiarity,
    split_batches,
)
from training.graph.session import FAMILIARITY, open_session, run_for_top1
from training.imaging.preprocessing import Input, Pixels, load_pixels
from training.imaging.synthetic import generate_images

OTHERS = 200  # pictures of each folder at most
GENERATED = 100
MIN_USUAL = 100  # pictures that the features' covariance is computed from
OUTPUTS = ["logits", "probabilities"]


@dataclass(frozen=True)
class Doubts:
    """The card's `confidence`, its graph, and the graph's answers."""

    proto: onnx.ModelProto
    confidence: dict[str, Any]
    outputs: Outputs


def load_others(names: Sequence[str], input_spec: Input) -> dict[str, Pixels]:
    """Pictures (N, H, W, C) unlike the model's, by a name: of folders, or else generated ones.

    A folder may be named as in the data folder. At most 200 pictures are taken from each, spread
    evenly over it.

    Raises:
        UserError: a folder has no pictures, or one cannot be decoded.
    """
    size = input_spec.height, input_spec.width, input_spec.channels
    if not names:
        return {"generated pictures": generate_images(GENERATED, *size)}
    return {
        Path(name).name if Path(name).is_absolute() else name: load_some(
            resolve_path(name), input_spec
        )
        for name in names
    }


def load_some(folder: Path, input_spec: Input) -> Pixels:
    """At most 200 pictures (N, H, W, C) of a folder and its subfolders, spread evenly."""
    files = list_pictures(folder) if folder.is_dir() else []
    if not files:
        raise UserError(
            f"{folder} has no pictures. Give a folder of pictures unlike those of the model."
        )
    chosen = files[:: -(-len(files) // OTHERS)]
    return np.stack([load_pixels(path, input_spec) for path in chosen])


def measure_doubts(
    proto: onnx.ModelProto,
    held_out: Split,
    others: Mapping[str, Pixels],
    usual: Pixels | None,
    say: Callable[[str], None],
) -> Doubts:
    """Measure the thresholds. With `usual` pictures, try pooled features, too.

    The features are fitted on `usual`, which must not be among the held-out pictures. The graph
    gets the output `familiarity` if it notices more of the other pictures than the logits do.

    Raises:
        UserError: there are too few usual pictures, or the graph has no features.
        CheckError: the added output changes the others.
    """
    plain = graph = remove_familiarity(proto)
    if usual is not None:
        graph = extend_graph(plain, usual)
        check_unchanged(plain, graph, held_out.pictures[:8])
    outputs = run_graph(graph, held_out.pictures)
    foreign = {name: run_graph(graph, pictures) for name, pictures in others.items()}
    found = measure_confidence(outputs, held_out.labels, foreign)
    for sentence in describe_confidence(found):
        say(sentence)
    is_needed = found["unfamiliar"]["score"] == FAMILIARITY
    return Doubts(graph if is_needed else plain, found, outputs)


def extend_graph(plain: onnx.ModelProto, usual: Pixels) -> onnx.ModelProto:
    """The graph with the output `familiarity`, fitted on `usual` pictures (N, H, W, C)."""
    if len(usual) < MIN_USUAL:
        raise UserError(
            f"--familiarity needs at least {MIN_USUAL} pictures to learn the usual features from, "
            f"got {len(usual)}. Give more pictures, or leave it out."
        )
    return add_familiarity(plain, fit_gaussian(pool_features(plain, usual)))


def check_unchanged(plain: onnx.ModelProto, extended: onnx.ModelProto, pictures: Pixels) -> None:
    """Check that an added output changes no other output.

    Raises:
        CheckError: it does.
    """
    before, after = (run_for_top1(open_session(graph), pictures, 1) for graph in (plain, extended))
    if not all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)):
        raise CheckError(
            "The output `familiarity` changes the others. No file was written. "
            "Leave --familiarity out."
        )


def run_graph(proto: onnx.ModelProto, pictures: Pixels) -> Outputs:
    """The graph's answers to pictures (N, H, W, C), without maps."""
    names = [*OUTPUTS, FAMILIARITY]
    present = [value.name for value in proto.graph.output]
    run = open_session(proto, outputs=[name for name in names if name in present])
    batches = [run_for_top1(run, batch, 0) for batch in split_batches(pictures)]
    return Outputs(*(np.concatenate(values) for values in zip(*batches, strict=True)))
