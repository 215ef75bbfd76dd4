"""`import` exports a network that was trained elsewhere."""

import argparse
from pathlib import Path

from training.commands.export import add_export_arguments
from training.commands.introduction import take_introduction
from training.commands.parsers import Commands, add_command, make_request


def add_import(commands: Commands) -> None:
    command = add_command(
        commands,
        "import",
        "export a network that was trained elsewhere",
        "import mypackage.nets:build --weights net.pt --labels labels.txt",
        run_import,
    )
    add_network_arguments(command)
    add_picture_arguments(command)
    command.add_argument("--origin", default="", help="origin of the weights, for the card")
    command.add_argument(
        "--license", default="unknown", help="license of the weights, for the card"
    )
    add_export_arguments(command)


def add_network_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that say what the network is and what it reads."""
    command.add_argument(
        "architecture", help="a torchvision name, timm:<name> or package.module:function"
    )
    command.add_argument(
        "--weights", help="weights file (default: download those of torchvision or timm)"
    )
    command.add_argument(
        "--labels",
        type=Path,
        help="file of labels: one per line, or tab-separated index, id, label",
    )
    command.add_argument("--size", type=int, help="height and width of the input, in pixels")
    command.add_argument(
        "--resize",
        type=int,
        help="resize the shorter side to this and crop the centre; 0: squash instead",
    )
    command.add_argument(
        "--interpolation",
        choices=["nearest", "bilinear", "bicubic", "lanczos"],
        help="of the resize (default: the architecture's, else bilinear)",
    )
    command.add_argument("--mean", type=float, nargs="+", help="per channel, for pixels in 0..1")
    command.add_argument("--std", type=float, nargs="+", help="per channel, for pixels in 0..1")
    command.add_argument(
        "--task", default="multiclass", choices=["multiclass", "multilabel", "segmentation"]
    )


def add_picture_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments about the pictures on which the network is measured."""
    command.add_argument(
        "--pictures",
        type=Path,
        help="folder of labelled test pictures: <label>/*.jpg, or images and masks",
    )
    command.add_argument(
        "--pictures-are",
        default="",
        help="description for the card, and whether the network was trained on them",
    )
    command.add_argument("--private", action="store_true", help="show no pictures in the report")


def run_import(arguments: argparse.Namespace) -> None:
    from training.export.import_network import ImportRequest, import_network
    from training.export.masks.import_network import import_mask_network

    arguments.introduction = take_introduction(arguments)
    request = make_request(ImportRequest, arguments)
    if request.task == "segmentation":
        folder = import_mask_network(request)
    else:
        folder = import_network(request)
    print(f"{folder / 'model.onnx'} is ready.")
