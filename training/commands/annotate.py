"""`annotate` gives a model file another card: its warnings' thresholds, and texts for people."""

import argparse
from pathlib import Path

from training.commands.introduction import add_introduction_arguments, take_introduction
from training.commands.parsers import Commands, add_command, make_request


def add_annotate(commands: Commands) -> None:
    command = add_command(
        commands,
        "annotate",
        "write a file's card anew: the warnings' thresholds, or texts and examples for people",
        "annotate models/lenet5/1/model.onnx --unlike photos",
        run_annotate,
    )
    command.add_argument("file", type=Path, help="a model file, <name>/<version>/model.onnx")
    command.add_argument(
        "--pictures",
        type=Path,
        help="folder of labelled held-out pictures: <label>/*.jpg (default: the test split of the "
        "data set that the card names)",
    )
    command.add_argument(
        "--pictures-are",
        default="",
        help="description for the card, and whether the network was trained on them",
    )
    add_confidence_arguments(command)
    add_introduction_arguments(command)
    command.add_argument(
        "--version", type=int, help="version to write (default: the next free one)"
    )
    command.add_argument(
        "--own-fields",
        action="store_true",
        help="only fill ONNX's own fields (model_version, domain, doc_string) of the file itself "
        "from its card, which stays as it is",
    )


def add_confidence_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments about pictures that the model does not know."""
    command.add_argument(
        "--unlike",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder of pictures unlike those of the model, to measure what `unfamiliar` notices; "
        "may be repeated (default: generated pictures)",
    )
    command.add_argument(
        "--familiarity",
        action="store_true",
        help="judge unfamiliar pictures by pooled features too, if they notice more than the "
        "logits do; adds an output to the graph",
    )


def run_annotate(arguments: argparse.Namespace) -> None:
    from training.export.annotate import AnnotateRequest, annotate_model

    arguments.introduction = take_introduction(arguments)
    folder = annotate_model(make_request(AnnotateRequest, arguments))
    print(f"{folder / 'model.onnx'} is ready.")
