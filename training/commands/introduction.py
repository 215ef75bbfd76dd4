"""The arguments about what a model file tells people."""

import argparse
from pathlib import Path
from typing import Any


def add_introduction_arguments(command: argparse.ArgumentParser) -> None:
    """Add the arguments about the title, the summary and the examples."""
    command.add_argument(
        "--title", help='name for people, for example "Handwritten digits" (default: none)'
    )
    command.add_argument(
        "--summary", help="one or two sentences for people: what the model is for (default: none)"
    )
    command.add_argument(
        "--examples",
        type=Path,
        metavar="FOLDER",
        help="at most 6 small pictures to try, named for people: a_seven.png or <label>/tile.jpg "
        "(default: none)",
    )
    command.add_argument(
        "--examples-credit", help="who made the examples, and their license (default: none)"
    )


def take_introduction(arguments: argparse.Namespace) -> Any:
    """Take these arguments out of the others, as one request."""
    from training.artifact.introduction import IntroductionRequest

    names = ("title", "summary", "examples", "examples_credit")
    return IntroductionRequest(**{name: vars(arguments).pop(name) for name in names})
