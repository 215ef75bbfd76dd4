"""The command `sightglass`: the commands of service, hub and training in one.

In the wheel this is `python -m sightglass`. Here it is `python -m command`. What a command does is
in its own package. Only the command that runs imports what it needs, so that `--help` is quick.
"""

import argparse
import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import shtab

from hub.__main__ import add_commands as add_hub_commands
from hub.__main__ import run as run_hub
from service import __version__
from service.__main__ import add_commands as add_service_commands
from service.__main__ import run as run_service
from training.__main__ import add_commands as add_training_commands
from training.__main__ import run as run_training

Run = Callable[[argparse.Namespace], int]

DESCRIPTION = "Serve image classifiers that explain their answers with Grad-CAM, and make them."
EPILOG = """examples:
  sightglass serve --port 8080
  sightglass explain cat.jpg -o heatmap.png --target "Egyptian cat"
  sightglass pull hf://someone/birds@v2 --name birds
  sightglass check models
  sightglass completion bash > ~/.local/share/bash-completion/completions/sightglass

The environment variables SIGHTGLASS_… configure serve, check and explain. fit, tune, evaluate,
export, import, annotate and layers need the extra: pip install "sightglass[training]"
"""
NEEDS_TORCH = ("fit", "tune", "evaluate", "export", "import", "annotate", "layers")


def main() -> int:
    """Run the command that the command line names; return its exit code."""
    parser, runners = make_parser()
    arguments = parser.parse_args()
    if arguments.command in NEEDS_TORCH and importlib.util.find_spec("torch") is None:
        print(
            f"The command {arguments.command} needs torch, which is not installed. Install the "
            'extra: pip install "sightglass[training]"',
            file=sys.stderr,
        )
        return 2
    return runners[arguments.command](arguments)


def make_parser() -> tuple[argparse.ArgumentParser, dict[str, Run]]:
    """Return the parser of the command line, and what runs each command."""
    parser = argparse.ArgumentParser(
        prog="sightglass",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sightglass {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    runners: dict[str, Run] = {}
    for add_commands, run in (
        (add_service_commands, run_service),
        (add_hub_commands, run_hub),
        (add_training_commands, run_training),
        (add_completion, print_completion),
    ):
        add_commands(commands)
        runners |= {name: run for name in commands.choices if name not in runners}
    return parser, runners


def add_completion(commands: Any) -> None:
    """Add the command that completes the others in a shell."""
    summary = "print a script that completes commands and options in a shell"
    parser = commands.add_parser(
        "completion",
        help=summary,
        description=summary,
        epilog="example: sightglass completion zsh > ~/.zfunc/_sightglass",
    )
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="shell to complete in")


def print_completion(arguments: argparse.Namespace) -> int:
    """Print the script for a shell."""
    print(shtab.complete(make_parser()[0], arguments.shell))
    return 0


if __name__ == "__main__":
    sys.exit(main())
