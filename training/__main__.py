"""The commands: each reads its arguments, calls one module, prints what came of it."""

import argparse
import sys
from pathlib import Path
from typing import Any

from training.errors import UserError


def main() -> int:
    """Run one command; a user's mistake is one sentence and exit code 2."""
    parser = argparse.ArgumentParser("training", description="Offline work on models.")
    commands = parser.add_subparsers(required=True, metavar="command")

    command = commands.add_parser("fit", help="train a network as a config says")
    command.add_argument("config", help="a Python file, or a name from training/configs")
    command.add_argument("--set", action="append", metavar="KEY=VALUE", help="change the config")
    command.add_argument("--out", type=Path, help="folder of the run (default: runs/<name>)")
    command.add_argument("--resume", action="store_true", help="go on with the run found there")
    command.set_defaults(act=fit)

    command = commands.add_parser("tune", help="search for better hyperparameters")
    command.add_argument("config", help="a Python file, or a name from training/configs")
    command.add_argument("--set", action="append", metavar="KEY=VALUE", help="change the config")
    command.add_argument("--trials", type=int, default=20, help="how many to try now")
    command.add_argument("--seconds", type=float, help="stop after the trial that passes this")
    command.add_argument("--study", help="database URL (default: SQLite in the folder)")
    command.add_argument("--out", type=Path, help="folder for the best config and the plots")
    command.set_defaults(act=tune)

    command = commands.add_parser("evaluate", help="measure a checkpoint on a split")
    command.add_argument("checkpoint", type=Path)
    command.add_argument("--split", default="test", choices=["train", "val", "test"])
    command.add_argument("--out", type=Path, help="folder of the report (default: beside it)")
    command.set_defaults(act=evaluate)

    command = commands.add_parser("export", help="make an artefact of a checkpoint")
    command.add_argument("checkpoint", type=Path)
    command.add_argument(
        "--calibrate", action="store_true", help="fit a temperature on the validation split"
    )
    artefact(command)
    command.set_defaults(act=export)

    command = commands.add_parser("import", help="make an artefact of a network trained elsewhere")
    command.add_argument(
        "architecture", help="torchvision's name, timm:<name>, package.module:build"
    )
    command.add_argument("--weights", help="a file; without it, torchvision's own are fetched")
    command.add_argument("--labels", type=Path, help="a name a line, or index, id, name by tabs")
    command.add_argument("--size", type=int, help="side of the network's input")
    command.add_argument(
        "--resize", type=int, help="shorter side before the centre crop; 0: squash"
    )
    command.add_argument("--mean", type=float, nargs="+", help="by channel, of pixels in 0..1")
    command.add_argument("--std", type=float, nargs="+", help="by channel, of pixels in 0..1")
    command.add_argument("--task", default="multiclass", choices=["multiclass", "multilabel"])
    command.add_argument("--pictures", type=Path, help="labelled pictures to measure it on")
    command.add_argument(
        "--pictures-are", default="", help="what they are, and whether it was trained on them"
    )
    command.add_argument("--private", action="store_true", help="show none of them in the report")
    command.add_argument("--origin", default="", help="where the weights come from, for the card")
    command.add_argument("--license", default="unknown", help="of the weights, for the card")
    artefact(command)
    command.set_defaults(act=bring)

    command = commands.add_parser("describe", help="write the models' cards as pages, once more")
    command.add_argument("tree", type=Path, nargs="?", default=Path("models"))
    command.set_defaults(act=describe)

    command = commands.add_parser("layers", help="list the layers that Grad-CAM can explain")
    command.add_argument("network", help="a checkpoint, or an architecture as for import")
    command.add_argument("--size", type=int, help="side of the network's input")
    command.add_argument("--all", action="store_true", help="every layer, however deep")
    command.set_defaults(act=layers)

    arguments = parser.parse_args()
    try:
        arguments.act(arguments)
    except UserError as fault:
        print(fault, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def artefact(command: argparse.ArgumentParser) -> None:
    """What every command that writes an artefact takes."""
    command.add_argument("--to", type=Path, default=Path("models"), help="the model tree")
    command.add_argument("--name", help="the model's folder (default: the config's name)")
    command.add_argument("--version", type=int, help="its version (default: the next free one)")
    command.add_argument(
        "--layer", help="Grad-CAM's target layer (default: the architecture's); auto: try them"
    )
    command.add_argument(
        "--maps",
        type=int,
        default=200,
        help="on how many pictures the maps are tried; 0: on none (default: %(default)s)",
    )
    command.add_argument(
        "--precision",
        default="fp32",
        choices=["fp32", "w16", "fp16", "int8"],
        help="w16: weights stored in 16 bits; fp16: computed so, for GPUs; int8: for CPUs",
    )


def fit(arguments: argparse.Namespace) -> None:
    from training import config as configs
    from training.data import datasets as data
    from training.fit import loop as train

    config = configs.load(arguments.config, arguments.set)
    folder = arguments.out or Path("runs") / config.name
    train.fit(config, data.load(config), folder, arguments.resume)
    print(f"{folder / 'best.pt'} is the state with the lowest validation loss.")


def tune(arguments: argparse.Namespace) -> None:
    from training import config as configs
    from training.data import datasets as data
    from training.fit import search

    config = configs.load(arguments.config, arguments.set)
    folder = arguments.out or Path("runs") / f"tune-{config.name}"
    storage = arguments.study or f"sqlite:///{folder.resolve() / 'study.db'}"
    folder.mkdir(parents=True, exist_ok=True)
    search.tune(config, data.load(config), storage, arguments.trials, folder, arguments.seconds)
    print(f"{folder / config.name}.py is the best config so far: python -m training fit takes it.")


def evaluate(arguments: argparse.Namespace) -> None:
    import torch

    from training.data import datasets as data
    from training.evaluate import metrics as measure
    from training.evaluate import temperature as calibrate
    from training.fit import loop as train
    from training.report import plots as report

    config, labels, model, rest = train.load(arguments.checkpoint)
    split = data.load(config).splits[arguments.split]
    logits = torch.from_numpy(measure.predict(model.predict, split))
    probabilities = calibrate.probabilities(logits, config.task == "multilabel").numpy()
    figures = measure.metrics(probabilities, split.labels, labels)
    folder = arguments.out or arguments.checkpoint.parent / f"report-{arguments.split}"
    title = f"{config.name}: {len(split):,} pictures ({arguments.split})"
    report.draw(folder, labels, split, probabilities, figures, rest["history"])
    page = [f"# {title}", "", *report.tell(folder, figures), ""]
    (folder / "README.md").write_text("\n".join(page), encoding="utf-8")
    for line in report.table(figures):
        print(line)
    print(f"{folder / 'README.md'} has the rest.")


def export(arguments: argparse.Namespace) -> None:
    from training.artifact import card
    from training.data import datasets as data
    from training.export import pipeline as exporter
    from training.fit import loop as train
    from training.networks import classifier as models

    config, labels, model, rest = train.load(arguments.checkpoint)
    splits = data.load(config).splits
    history = rest["history"]
    about = card.Model(
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
    folder = exporter.export(
        about,
        model,
        arguments.layer or config.layer or models.default_layer(model.network),
        splits["test"].pictures[:: max(len(splits["test"]) // 64, 1)][:64],
        arguments.to,
        splits["test"],
        history=history[: rest["epoch"]],
        version=arguments.version,
        precision=arguments.precision,
        calibration=splits["val" if "val" in splits else "train"].pictures,
        validation=validation(splits) if arguments.calibrate else None,
        maps=arguments.maps,
    )
    print(f"{folder / 'model.onnx'} is ready.")


def validation(splits: dict[str, Any]) -> Any:
    """The split that a temperature is fitted on: seen neither in training nor in the test."""
    if "val" not in splits:
        raise UserError("--calibrate needs a validation split: give the config a share of it.")
    return splits["val"]


def bring(arguments: argparse.Namespace) -> None:
    from training.export import import_network as imported

    folder = imported.bring(
        imported.Request(**{key: value for key, value in vars(arguments).items() if key != "act"})
    )
    print(f"{folder / 'model.onnx'} is ready.")


def describe(arguments: argparse.Namespace) -> None:
    from training.report import model_card as modelcard

    for file in modelcard.find(arguments.tree):
        print(modelcard.write(file.parents[1].name, file.parent))


def layers(arguments: argparse.Namespace) -> None:
    import dataclasses

    import torch

    from training.fit import loop as train
    from training.gradcam import target_layers as survey
    from training.imaging import synthetic as scenes
    from training.imaging.preprocessing import Input
    from training.networks import classifier as models
    from training.networks import torchvision_zoo as classics

    if Path(arguments.network).is_file():
        config, _, model, _ = train.load(Path(arguments.network))
        wanted = config.input
    else:
        name = arguments.network
        wanted = classics.takes(name) if name in classics.names() else Input()
        if arguments.size:
            size = arguments.size
            wanted = dataclasses.replace(wanted, height=size, width=size, resize=size)
        model = models.build(name, 10, wanted, {})
    image = torch.from_numpy(scenes.draw(4, wanted.height, wanted.width, wanted.channels))
    rows = survey.survey(model, model.network, image, None if arguments.all else 2)
    print(f"{'layer':40} {'kind':22} {'map':>16}  compiler     cost")
    for row in rows:
        size = f"{row.channels} x {row.height} x {row.width}"
        print(f"{row.name:40} {row.kind:22} {size:>16}  {row.compiler:11} {row.cost:5.2f}")


if __name__ == "__main__":
    sys.exit(main())
