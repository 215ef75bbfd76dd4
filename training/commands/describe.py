"""`describe` writes the pages of the models' cards again."""

import argparse
from pathlib import Path

from training.commands.parsers import Commands, add_command


def add_describe(commands: Commands) -> None:
    command = add_command(
        commands,
        "describe",
        "write the page of each model's card again",
        "describe models",
        run_describe,
    )
    command.add_argument(
        "tree",
        type=Path,
        nargs="?",
        default=Path("models"),
        help="the model repository (default: %(default)s)",
    )


def run_describe(arguments: argparse.Namespace) -> None:
    from training.report.model_card import find_model_files, write_model_page

    for file in find_model_files(arguments.tree):
        print(write_model_page(file.parents[1].name, file.parent))
