"""`export` makes a model file of a checkpoint."""

import argparse
from pathlib import Path

from training.commands.annotate import add_confidence_arguments
from training.commands.introduction import add_introduction_arguments, take_introduction
from training.commands.parsers import Commands, add_command, make_request


def add_export(commands: Commands) -> None:
    command = add_command(
        commands,
        "export",
        "export a checkpoint to a model file",
        "export runs/lenet5/best.pt --to models",
        run_export,
    )
    command.add_argument("checkpoint", type=Path, help="the best.pt of a run")
    command.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on the validation split"
    )
    add_export_arguments(command)


def add_export_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the commands that write a model file."""
    command.add_argument(
        "--to",
        type=Path,
        default=Path("models"),
        help="the model repository (default: %(default)s)",
    )
    command.add_argument(
        "--name", help="name of the model (default: that of the config or architecture)"
    )
    command.add_argument(
        "--version", type=int, help="version of the model (default: the next free one)"
    )
    command.add_argument(
        "--layer", help="target layer (default: the architecture's); auto: choose by measurement"
    )
    command.add_argument(
        "--method",
        choices=["gradcam", "hirescam", "seg-hirescam", "seg-gradcam", "auto"],
        help="hirescam: multiply gradient and map position by position, without a mean; "
        "seg-…: the same two over the pixels of masks; auto: choose by measurement "
        "(default: gradcam, for masks seg-hirescam)",
    )
    command.add_argument(
        "--maps",
        type=int,
        default=200,
        help="number of pictures to measure the maps on; 0: none (default: %(default)s)",
    )
    command.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "w16", "fp16", "int8", "auto"],
        help="w16: store weights in 16 bits; fp16: compute in 16 bits, for GPUs; "
        "int8: compute in 8 bits, for CPUs; auto: the fastest file for CPUs whose answers stay "
        "within bounds on held-out pictures, else w16 (default: %(default)s)",
    )
    add_confidence_arguments(command)
    add_introduction_arguments(command)


def run_export(arguments: argparse.Namespace) -> None:
    from training.export.checkpoint import CheckpointRequest, export_checkpoint

    arguments.introduction = take_introduction(arguments)
    folder = export_checkpoint(make_request(CheckpointRequest, arguments))
    print(f"{folder / 'model.onnx'} is ready.")
