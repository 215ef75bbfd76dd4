"""The commands of the service: serve, check and explain.

Each command imports its own modules, so that a server starts half a second sooner.
"""

import argparse
import io
import mimetypes
import sys
from pathlib import Path
from typing import Any

from service import __version__
from service.errors import BadRequest
from service.settings import ConfigurationError, apply_bundled_default, read_settings
from service.usage_tracking import turn_off_usage_tracking

Commands = Any  # what add_subparsers returns; argparse keeps its type private
DESCRIPTION = "Serve image classifiers that explain their answers with Grad-CAM."
EPILOG = """examples:
  python -m service serve --port 8080
  python -m service check models
  python -m service explain cat.jpg -o heatmap.png --target "Egyptian cat"
  python -m service explain pictures --report out.html --csv out.csv

The environment variables SIGHTGLASS_… configure all commands.
"""
SERVE_EPILOG = "example: python -m service serve --host 0.0.0.0 --port 8080"
CHECK_EPILOG = "example: python -m service check models"
EXPLAIN_EPILOG = (
    'example: python -m service explain cat.jpg -o heatmap.png --target "Egyptian cat" --verify'
)
EXPLAIN_OPTIONS = (
    *("model", "target", "against", "box", "point", "of"),
    *("view", "colormap", "alpha", "size", "verify"),
)


def main() -> int:
    """Run the command that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sightglass {__version__}")
    add_commands(parser.add_subparsers(required=True, metavar="command"))
    return run(parser.parse_args())


def add_commands(commands: Commands) -> None:
    """Add the commands of the service."""
    for name, add_arguments, help_text, epilog in (
        ("serve", add_serve, "start the HTTP server", SERVE_EPILOG),
        ("check", add_check, "load all models as the server would and report", CHECK_EPILOG),
        ("explain", add_explain, "explain one picture without a server", EXPLAIN_EPILOG),
    ):
        add_arguments(
            commands.add_parser(name, help=help_text, description=help_text, epilog=epilog)
        )


def run(arguments: argparse.Namespace) -> int:
    """Run one of these commands; return its exit code. A mistake in it ends with one sentence."""
    turn_off_usage_tracking()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may have bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        exit_code: int = arguments.run(arguments)
    except (ConfigurationError, BadRequest) as exc:
        sys.exit(str(exc))
    return exit_code


def add_serve(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `serve`."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 accepts calls from other machines (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port", default="3000", help="port to listen on, for example 8080 (default: 3000)"
    )
    parser.set_defaults(run=run_serve)


def run_serve(arguments: argparse.Namespace) -> int:
    """Serve until a signal stops the server."""
    from service.cli.serve import parse_port, serve

    return serve(arguments.host, parse_port(arguments.port))


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    parser.add_argument(
        "models",
        type=Path,
        nargs="?",
        help="folder <name>/<version>/model.onnx, for example models "
        "(default: SIGHTGLASS_MODELS_DIR)",
    )
    parser.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    """Print the table; return 1 if a model can't be served."""
    from service.cli.offline import check

    settings = apply_bundled_default(read_settings())
    table, is_valid = check(arguments.models or settings.models_dir, settings)
    print(table)
    return 0 if is_valid else 1


def add_explain(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `explain`, which are the parameters of `POST /gradcam`."""
    parser.add_argument(
        "picture", type=Path, help="picture to explain, for example cat.jpg, or a folder of them"
    )
    for flags, help_text in (
        (("--model",), "name or name/version, for example lenet5/1 (default: the default model)"),
        (("--target",), 'label to explain, for example "tabby cat" (default: the most probable)'),
        (("--against",), 'explain the target rather than this label, for example "tiger cat"'),
        (("--box",), "for models that segment: explain the pixels in left,top,right,bottom"),
        (("--point",), "the same for one pixel x,y, for example 120,88"),
        (("--of",), "the same for the pixels that have this label"),
        (("--view",), "overlay, heatmap or signed (default: overlay)"),
        (("--colormap",), "viridis, turbo or gray (default: viridis)"),
        (("--alpha",), "opacity of the hottest point, 0 to 1, for example 0.4 (default: 0.6)"),
        (("--size",), "longer side of the output in pixels, for example 512; 0 keeps the size"),
    ):
        parser.add_argument(*flags, help=help_text)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        help="file to write, for example heatmap.png; .jpg and .webp work too",
    )
    parser.add_argument(
        "--report", type=Path, help="page to write about all pictures, for example out.html"
    )
    parser.add_argument(
        "--csv", type=Path, help="table to write of all pictures, for example out.csv"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        default=None,
        help="blur the hottest fifth, then the coldest fifth, and print the new probabilities",
    )
    parser.set_defaults(run=run_explain)


def run_explain(arguments: argparse.Namespace) -> int:
    """Write the heatmap and print what the model says."""
    from service.api.options import validate_options
    from service.cli.errors import CommandError
    from service.cli.offline import describe_explanation, explain
    from service.imaging.heatmap import ENCODINGS
    from service.parameters import ExplainOptions

    is_list = bool(arguments.report or arguments.csv)
    if bool(arguments.output) == is_list or (arguments.picture.is_dir() and not is_list):
        raise CommandError(
            "Give -o FILE for one picture, or --report FILE, --csv FILE or both for a folder."
        )
    if is_list and arguments.verify:
        raise CommandError("--verify is for one picture: give it with -o FILE.")
    media_type = "" if is_list else mimetypes.guess_type(arguments.output.name)[0] or ""
    if not is_list and media_type not in ENCODINGS:
        raise CommandError(
            f'The output must be a .png, .jpg or .webp file, got "{arguments.output}".'
        )
    given = {
        name: value for name in EXPLAIN_OPTIONS if (value := getattr(arguments, name)) is not None
    }
    if "target" in given:
        given["target"] = [given["target"]]
    options = validate_options(ExplainOptions, given)
    settings = apply_bundled_default(read_settings())
    if is_list:
        from service.cli.folder_report import explain_folder

        outputs = (arguments.report, arguments.csv)
        count, failed = explain_folder(arguments.picture, options, outputs, settings)
        for path in filter(None, outputs):
            print(f"{path}: {count} pictures, {failed} of them could not be explained")
        return int(failed > 0)
    explained = explain(arguments.picture, options, media_type, settings)
    try:
        arguments.output.write_bytes(explained.rendered.content)
    except OSError as exc:
        raise CommandError(f"{arguments.output} can't be written: {exc.strerror}.") from None
    print(describe_explanation(explained, arguments.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())
