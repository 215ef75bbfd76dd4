"""The command line: each command reads its arguments, calls one module and prints the result."""

import argparse
import sys
from pathlib import Path

from training.errors import UserError


def main() -> int:
    """Run one command. A user's mistake prints one sentence and exits with code 2."""
    parser = argparse.ArgumentParser(
        "training", description="Train, evaluate, export and import models."
    )
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("fit", help="train the network of a config")
    command.add_argument(
        "config", help="a Python file, or the name of a config in training/configs"
    )
    command.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="replace one field of the config"
    )
    command.add_argument("--out", type=Path, help="folder of the run (default: runs/<name>)")
    command.add_argument("--resume", action="store_true", help="continue the run in that folder")
    command.set_defaults(act=run_fit)

    command = commands.add_parser("tune", help="search for better hyperparameters")
    command.add_argument(
        "config", help="a Python file, or the name of a config in training/configs"
    )
    command.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="replace one field of the config"
    )
    command.add_argument(
        "--trials", type=int, default=20, help="number of trials to run now (default: %(default)s)"
    )
    command.add_argument("--seconds", type=float, help="start no new trial after this time")
    command.add_argument(
        "--study", help="database URL of the study (default: SQLite in the folder)"
    )
    command.add_argument("--out", type=Path, help="folder of the best config and the plots")
    command.set_defaults(act=run_tune)

    command = commands.add_parser(
        "evaluate", help="measure a checkpoint on a split of its data set"
    )
    command.add_argument("checkpoint", type=Path)
    command.add_argument("--split", default="test", choices=["train", "val", "test"])
    command.add_argument(
        "--out", type=Path, help="folder of the report (default: next to the checkpoint)"
    )
    command.set_defaults(act=run_evaluate)

    command = commands.add_parser("export", help="export a checkpoint to a model file")
    command.add_argument("checkpoint", type=Path)
    command.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on the validation split"
    )
    add_export_arguments(command)
    command.set_defaults(act=run_export)

    command = commands.add_parser("import", help="export a network that was trained elsewhere")
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
    command.add_argument("--mean", type=float, nargs="+", help="per channel, for pixels in 0..1")
    command.add_argument("--std", type=float, nargs="+", help="per channel, for pixels in 0..1")
    command.add_argument("--task", default="multiclass", choices=["multiclass", "multilabel"])
    command.add_argument(
        "--pictures", type=Path, help="folder of labelled test pictures: <label>/*.jpg"
    )
    command.add_argument(
        "--pictures-are",
        default="",
        help="description for the card, and whether the network was trained on them",
    )
    command.add_argument("--private", action="store_true", help="show no pictures in the report")
    command.add_argument("--origin", default="", help="origin of the weights, for the card")
    command.add_argument(
        "--license", default="unknown", help="license of the weights, for the card"
    )
    add_export_arguments(command)
    command.set_defaults(act=run_import)

    command = commands.add_parser("describe", help="write the page of each model's card again")
    command.add_argument("tree", type=Path, nargs="?", default=Path("models"))
    command.set_defaults(act=run_describe)

    command = commands.add_parser("layers", help="list the layers that Grad-CAM can target")
    command.add_argument("network", help="a checkpoint, or an architecture as in import")
    command.add_argument("--size", type=int, help="height and width of the input, in pixels")
    command.add_argument("--all", action="store_true", help="list nested layers too")
    command.set_defaults(act=run_layers)

    arguments = parser.parse_args()
    try:
        arguments.act(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


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


def run_fit(arguments: argparse.Namespace) -> None:
    from training.config import load_config
    from training.data.datasets import load_dataset
    from training.fit.loop import fit

    config = load_config(arguments.config, arguments.set)
    folder = arguments.out or Path("runs") / config.name
    fit(config, load_dataset(config), folder, arguments.resume)
    print(f"{folder / 'best.pt'} is the state with the lowest validation loss.")


def run_tune(arguments: argparse.Namespace) -> None:
    from training.config import load_config
    from training.data.datasets import load_dataset
    from training.fit.search import search_hyperparameters

    config = load_config(arguments.config, arguments.set)
    folder = arguments.out or Path("runs") / f"tune-{config.name}"
    storage = arguments.study or f"sqlite:///{folder.resolve() / 'study.db'}"
    folder.mkdir(parents=True, exist_ok=True)
    search_hyperparameters(
        config, load_dataset(config), storage, arguments.trials, folder, arguments.seconds
    )
    print(f"{folder / config.name}.py is the best config so far: python -m training fit takes it.")


def run_evaluate(arguments: argparse.Namespace) -> None:
    import torch

    from training.data.datasets import load_dataset
    from training.evaluate.metrics import Evaluation, compute_metrics, predict_split
    from training.fit.checkpoint import load_checkpoint
    from training.networks.classifier import compute_probabilities
    from training.report.plots import format_metrics, format_table, save_report_plots

    config, labels, model, rest = load_checkpoint(arguments.checkpoint)
    split = load_dataset(config).splits[arguments.split]
    logits = torch.from_numpy(predict_split(model.predict, split))
    probabilities = compute_probabilities(logits, config.task == "multilabel").numpy()
    figures = compute_metrics(probabilities, split.labels, labels)
    folder = arguments.out or arguments.checkpoint.parent / f"report-{arguments.split}"
    title = f"{config.name}: {len(split):,} pictures ({arguments.split})"
    evaluation = Evaluation(labels, split, probabilities, figures)
    save_report_plots(folder, evaluation, rest["history"])
    page = [f"# {title}", "", *format_metrics(folder, figures), ""]
    (folder / "README.md").write_text("\n".join(page), encoding="utf-8")
    for line in format_table(figures):
        print(line)
    print(f"{folder / 'README.md'} has the rest.")


def run_export(arguments: argparse.Namespace) -> None:
    from training.export.checkpoint import CheckpointRequest, export_checkpoint

    folder = export_checkpoint(
        CheckpointRequest(**{key: value for key, value in vars(arguments).items() if key != "act"})
    )
    print(f"{folder / 'model.onnx'} is ready.")


def run_import(arguments: argparse.Namespace) -> None:
    from training.export.import_network import ImportRequest, import_network

    folder = import_network(
        ImportRequest(**{key: value for key, value in vars(arguments).items() if key != "act"})
    )
    print(f"{folder / 'model.onnx'} is ready.")


def run_describe(arguments: argparse.Namespace) -> None:
    from training.report.model_card import find_model_files, write_model_page

    for file in find_model_files(arguments.tree):
        print(write_model_page(file.parents[1].name, file.parent))


def run_layers(arguments: argparse.Namespace) -> None:
    import dataclasses

    import torch

    from training.fit.checkpoint import load_checkpoint
    from training.gradcam.target_layers import list_target_layers
    from training.imaging.preprocessing import Input
    from training.imaging.synthetic import generate_images
    from training.networks.classifier import build_classifier
    from training.networks.torchvision_zoo import get_torchvision_input, list_torchvision_names

    if Path(arguments.network).is_file():
        config, _, model, _ = load_checkpoint(Path(arguments.network))
        input_spec = config.input
    else:
        name = arguments.network
        input_spec = get_torchvision_input(name) if name in list_torchvision_names() else Input()
        if arguments.size:
            size = arguments.size
            input_spec = dataclasses.replace(input_spec, height=size, width=size, resize=size)
        model = build_classifier(name, 10, input_spec, {})
    image = torch.from_numpy(
        generate_images(4, input_spec.height, input_spec.width, input_spec.channels)
    )
    rows = list_target_layers(model, model.network, image, None if arguments.all else 2)
    print(f"{'layer':40} {'kind':22} {'map':>16}  compiler     cost")
    for row in rows:
        size = f"{row.channels} x {row.height} x {row.width}"
        print(f"{row.name:40} {row.kind:22} {size:>16}  {row.compiler:11} {row.cost:5.2f}")


if __name__ == "__main__":
    sys.exit(main())
