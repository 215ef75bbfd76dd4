"""The command line: `python -m training <command>`, with one module in `commands` for each."""

import argparse
import sys

from training.commands.annotate import add_annotate
from training.commands.describe import add_describe
from training.commands.evaluate import add_evaluate
from training.commands.export import add_export
from training.commands.fit import add_fit, add_tune
from training.commands.import_network import add_import
from training.commands.layers import add_layers
from training.errors import UserError


def main() -> int:
    """Run one command. A user's mistake prints one sentence and exits with code 2."""
    parser = argparse.ArgumentParser(
        "training", description="Train, evaluate, export and import models."
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (
        *(add_fit, add_tune, add_evaluate, add_export, add_import),
        *(add_annotate, add_describe, add_layers),
    ):
        add(commands)
    arguments = parser.parse_args()
    try:
        arguments.act(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
