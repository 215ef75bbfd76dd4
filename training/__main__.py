"""The commands: each reads its arguments, calls one module, prints what came of it."""

import argparse
import sys
from pathlib import Path

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

    arguments = parser.parse_args()
    try:
        arguments.act(arguments)
    except UserError as fault:
        print(fault, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def fit(arguments: argparse.Namespace) -> None:
    from training import config as configs
    from training import data, train

    config = configs.load(arguments.config, arguments.set)
    folder = arguments.out or Path("runs") / config.name
    train.fit(config, data.load(config), folder, arguments.resume)
    print(f"{folder / 'best.pt'} is the state with the lowest validation loss.")


if __name__ == "__main__":
    sys.exit(main())
