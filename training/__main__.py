"""The command line: `python -m training <command>`, with one module in `commands` for each."""

import argparse
import io
import os
import sys

from training import __version__
from training.commands.annotate import add_annotate
from training.commands.describe import add_describe
from training.commands.evaluate import add_evaluate
from training.commands.export import add_export
from training.commands.fit import add_fit, add_tune
from training.commands.import_network import add_import
from training.commands.layers import add_layers
from training.commands.parsers import Commands
from training.errors import UserError


def main() -> int:
    """Run the command that the command line names; return its exit code."""
    parser = argparse.ArgumentParser(
        "python -m training", description="Train, evaluate, export and import models."
    )
    parser.add_argument("--version", action="version", version=f"sightglass {__version__}")
    add_commands(parser.add_subparsers(required=True, metavar="command"))
    return run(parser.parse_args())


def add_commands(commands: Commands) -> None:
    """Add the commands of the training."""
    for add in (
        *(add_fit, add_tune, add_evaluate, add_export, add_import),
        *(add_annotate, add_describe, add_layers),
    ):
        add(commands)


def run(arguments: argparse.Namespace) -> int:
    """Run one of these commands. A user's mistake prints one sentence; its exit code is 2."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime would report its use to its maker
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        arguments.act(arguments)
    except UserError as error:
        sys.stderr.write(f"{error}\n")  # at once: several processes may have the same to say
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
