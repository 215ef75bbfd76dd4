"""What the parsers of all commands share."""

import argparse
from collections.abc import Callable
from typing import Any, TypeVar

Commands = Any  # what add_subparsers returns; argparse keeps its type private
Run = Callable[[argparse.Namespace], None]
Request = TypeVar("Request")


def add_command(
    commands: Commands, name: str, summary: str, example: str, run: Run
) -> argparse.ArgumentParser:
    """Add a command with its one-line help, and an example at the end of its --help."""
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        epilog=f"example: python -m training {example}",
    )
    command.set_defaults(act=run)
    return command


def make_request(kind: Callable[..., Request], arguments: argparse.Namespace) -> Request:
    """The request whose fields are the arguments of a command."""
    return kind(**{name: value for name, value in vars(arguments).items() if name != "act"})
