"""`export` makes a model file of a checkpoint."""

import argparse
from pathlib import Path
from typing import Any

from training.commands.parsers import Commands, add_command
from training.errors import UserError


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
        "--maps",
        type=int,
        default=200,
        help="number of pictures to measure the maps on; 0: none (default: %(default)s)",
    )
    command.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "w16", "fp16", "int8"],
        help="w16: store weights in 16 bits; fp16: compute in 16 bits, for GPUs; "
        "int8: compute in 8 bits, for CPUs (default: %(default)s)",
    )


def run_export(arguments: argparse.Namespace) -> None:
    from training.artifact.card import ModelInfo
    from training.data.datasets import load_dataset
    from training.export.pipeline import export_model
    from training.fit.checkpoint import load_checkpoint
    from training.networks.classifier import get_default_layer

    config, labels, model, rest = load_checkpoint(arguments.checkpoint)
    data = load_dataset(config)
    splits, test = data.splits, data.get_split("test")
    history = rest["history"]
    info = ModelInfo(
        arguments.name or config.name,
        config.architecture,
        labels,
        config.input,
        config.task,
        config.license,
        {
            "data": config.source or config.data,
            "epochs": rest["epoch"],
            "seed": config.seed,
            "validation_accuracy": history[rest["epoch"] - 1]["val_accuracy"],
            "config": {k: v for k, v in config.to_json().items() if k not in ("source", "device")},
        },
    )
    folder = export_model(
        info,
        model,
        arguments.layer or config.layer or get_default_layer(model.network),
        test.pictures[:: max(len(test) // 64, 1)][:64],
        arguments.to,
        test,
        history=history[: rest["epoch"]],
        version=arguments.version,
        precision=arguments.precision,
        calibration=splits["val" if "val" in splits else "train"].pictures,
        validation=get_validation_split(splits) if arguments.calibrate else None,
        maps=arguments.maps,
    )
    print(f"{folder / 'model.onnx'} is ready.")


def get_validation_split(splits: dict[str, Any]) -> Any:
    """The validation split, on which a temperature is fitted; UserError if there is none."""
    if "val" not in splits:
        raise UserError(
            "--calibrate needs a validation split. "
            "Train with a config whose `validation` is above 0."
        )
    return splits["val"]
