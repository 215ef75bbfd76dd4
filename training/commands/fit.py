"""`fit` trains the network of a config; `tune` searches for a better config."""

import argparse
from pathlib import Path

from training.commands.parsers import Commands, add_command


def add_fit(commands: Commands) -> None:
    command = add_command(
        commands,
        "fit",
        "train the network of a config",
        "fit lenet5 --set epochs=3 --out runs/quick",
        run_fit,
    )
    add_config_arguments(command)
    command.add_argument("--out", type=Path, help="folder of the run (default: runs/<name>)")
    command.add_argument("--resume", action="store_true", help="continue the run in that folder")


def add_tune(commands: Commands) -> None:
    command = add_command(
        commands,
        "tune",
        "search for better hyperparameters",
        "tune lenet5 --trials 40 --set epochs=5",
        run_tune,
    )
    add_config_arguments(command)
    command.add_argument(
        "--trials", type=int, default=20, help="number of trials to run now (default: %(default)s)"
    )
    command.add_argument("--seconds", type=float, help="start no new trial after this time")
    command.add_argument(
        "--study", help="database URL of the study (default: SQLite in the folder)"
    )
    command.add_argument("--out", type=Path, help="folder of the best config and the plots")


def add_config_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments that name a config and change it."""
    command.add_argument(
        "config", help="a Python file, or the name of a config in training/configs"
    )
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replace one field of the config",
    )
    for name, what in (
        ("unreadable", "pictures that cannot be decoded"),
        ("duplicates", "copies of pictures of the validation or test split"),
    ):
        command.add_argument(
            f"--skip-{name}",
            dest="set",
            action="append_const",
            const=f"skip_{name}=True",
            help=f"leave out {what}",
        )


def run_fit(arguments: argparse.Namespace) -> None:
    from training.config_file import load_config
    from training.data.datasets import load_training_dataset
    from training.fit.distributed import check_device, get_rank
    from training.fit.loop import fit
    from training.fit.scores import PHRASES, get_best_measure

    config = load_config(arguments.config, arguments.set)
    check_device(config.device)
    folder = arguments.out or Path("runs") / config.name
    fit(config, load_training_dataset(config), folder, arguments.resume)
    if get_rank() == 0:
        measure, sign = get_best_measure(config)
        most = "lowest" if sign > 0 else "highest"
        print(f"{folder / 'best.pt'} is the state with the {most} {PHRASES[measure]}.")


def run_tune(arguments: argparse.Namespace) -> None:
    from training.config_file import load_config
    from training.data.datasets import load_training_dataset
    from training.fit.distributed import check_device
    from training.fit.search import search_hyperparameters

    config = load_config(arguments.config, arguments.set)
    check_device(config.device)
    folder = arguments.out or Path("runs") / f"tune-{config.name}"
    storage = arguments.study or f"sqlite:///{folder.resolve() / 'study.db'}"
    folder.mkdir(parents=True, exist_ok=True)
    search_hyperparameters(
        config, load_training_dataset(config), storage, arguments.trials, folder, arguments.seconds
    )
    print(f"{folder / config.name}.py is the best config so far: python -m training fit takes it.")
