"""`layers` lists the layers that Grad-CAM can target, with the cost of each."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from training.commands.parsers import Commands, add_command

if TYPE_CHECKING:  # torch is loaded when the command runs, so that --help is quick
    from training.imaging.preprocessing import Input
    from training.networks.classifier import Classifier


def add_layers(commands: Commands) -> None:
    command = add_command(
        commands,
        "layers",
        "list the layers that Grad-CAM can target",
        "layers resnet18 --size 64",
        run_layers,
    )
    command.add_argument("network", help="a checkpoint, or an architecture as in import")
    command.add_argument("--size", type=int, help="height and width of the input, in pixels")
    command.add_argument("--all", action="store_true", help="list nested layers too")


def run_layers(arguments: argparse.Namespace) -> None:
    import torch

    from training.gradcam.reference import METHODS
    from training.gradcam.target_layers import list_target_layers
    from training.imaging.synthetic import generate_images

    input_spec, model = load_network(arguments.network, arguments.size)
    image = torch.from_numpy(
        generate_images(4, input_spec.height, input_spec.width, input_spec.channels)
    )
    depth = None if arguments.all else 2
    rows = list_target_layers(model, model.network, image, depth, METHODS)
    print(f"{'layer':40} {'kind':22} {'map':>16}  {'method':8}  compiler     cost")
    for row in rows:
        size = f"{row.channels} x {row.height} x {row.width}"
        print(
            f"{row.name:40} {row.kind:22} {size:>16}  {row.method:8}  {row.compiler:11} "
            f"{row.cost:5.2f}"
        )


def load_network(name: str, size: int | None) -> "tuple[Input, Classifier]":
    """The network of a checkpoint, or an untrained one, and the input that it reads."""
    from training.fit.checkpoint import load_checkpoint
    from training.networks.classifier import build_classifier, get_default_input
    from training.networks.trial import count_logits

    if Path(name).is_file():
        config, _, model, _ = load_checkpoint(Path(name))
        return config.input, model
    input_spec = get_default_input(name)
    if size is not None:
        input_spec = replace(input_spec, height=size, width=size, resize=size)
    model = build_classifier(name, 10, input_spec, {})
    count_logits(name, input_spec, model)
    return input_spec, model
