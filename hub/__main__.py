"""The commands pull and push: they read their arguments, call one module and print."""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

from hub.errors import HubError
from service.settings import ConfigurationError, read_settings
from service.usage_tracking import turn_off_usage_tracking

Commands = Any  # what add_subparsers returns; argparse keeps its type private
PULL_EPILOG = """examples:
  sightglass pull hf://someone/birds@v2
  sightglass pull s3://bucket/models/birds/3
  sightglass pull https://example.org/birds.onnx --sha256 9f86d0…
  sightglass pull oci://registry.example.org/someone/birds:v2 --public-key someone.pem
  sightglass pull runs/birds.onnx --name birds --version 4

Access: HF_TOKEN for Hugging Face; what docker login stored for oci://; for s3:// and gs:// what
their own tools use.
"""
PUSH_EPILOG = """examples:
  sightglass push models/birds/3 hf://someone/birds
  sightglass push models/birds/3 hf://someone/birds@v2 --private

Access: HF_TOKEN, or what `hf auth login` stored.
"""


def main() -> int:
    """Run the command that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m hub", description="Fetch models from where they are, and publish them."
    )
    add_commands(parser.add_subparsers(required=True, metavar="command"))
    return run(parser.parse_args())


def add_commands(commands: Commands) -> None:
    """Add both commands."""
    for name, add_arguments, summary, epilog in (
        ("pull", add_pull, "put a model from elsewhere into the model repository", PULL_EPILOG),
        ("push", add_push, "publish a model on Hugging Face", PUSH_EPILOG),
    ):
        add_arguments(
            commands.add_parser(
                name,
                help=summary,
                description=f"{summary[0].upper()}{summary[1:]}.",
                epilog=epilog,
                formatter_class=argparse.RawDescriptionHelpFormatter,
            )
        )


def run(arguments: argparse.Namespace) -> int:
    """Run one of these commands. A user's mistake prints one sentence; its exit code is 2."""
    turn_off_usage_tracking()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        print(arguments.act(arguments))
    except (HubError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def add_pull(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pull`."""
    parser.add_argument(
        "source",
        help="hf://owner/repository@revision, s3://…, gs://…, oci://host/repository:tag, "
        "https://… or a file",
    )
    parser.add_argument("--name", help="name of the model (default: what the source suggests)")
    parser.add_argument("--version", type=int, help="version to write (default: the next free one)")
    parser.add_argument(
        "--to",
        type=Path,
        help="the model repository (default: SIGHTGLASS_MODELS_DIR, or the folder models)",
    )
    parser.add_argument("--sha256", help="digest that the file must have, in hexadecimal")
    parser.add_argument(
        "--public-key",
        type=Path,
        help="key in PEM, whose owner must have signed the file with OpenSSF model signing",
    )
    parser.add_argument(
        "--signature", help="where the signature is (default: model.sig beside the file)"
    )
    parser.set_defaults(act=run_pull)


def run_pull(arguments: argparse.Namespace) -> str:
    """Pull a model; return what to print."""
    from hub.pull import PullRequest, pull
    from hub.source import parse_source

    settings = read_settings()
    if arguments.version is not None and arguments.version < 1:
        raise HubError(f"--version must be a positive integer, got {arguments.version}.")
    request = PullRequest(
        parse_source(arguments.source),
        arguments.to or settings.models_dir,
        arguments.name,
        arguments.version,
        arguments.sha256,
        arguments.public_key,
        parse_source(arguments.signature) if arguments.signature else None,
    )
    pulled = pull(request, settings, show_progress if sys.stderr.isatty() else lambda _: None)
    state = "is ready" if pulled.is_new else "was there already"
    return f"{pulled.path} {state}. Its SHA-256 is {pulled.sha256}."


def show_progress(size: int) -> None:
    """Overwrite the line of the terminal with what has arrived."""
    print(f"\r{size / 1e6:.0f} MB", end="\r", file=sys.stderr, flush=True)


def add_push(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `push`."""
    parser.add_argument("model", type=Path, help="folder of a version, for example models/birds/3")
    parser.add_argument("target", help="hf://owner/repository, or with @branch")
    parser.add_argument("--private", action="store_true", help="if it is new, show it to nobody")
    parser.set_defaults(act=run_push)


def run_push(arguments: argparse.Namespace) -> str:
    """Push a model; return what to print."""
    from hub.push import push

    address = push(arguments.model, arguments.target, arguments.private)
    return f"{arguments.model} is published: {address}"


if __name__ == "__main__":
    sys.exit(main())
