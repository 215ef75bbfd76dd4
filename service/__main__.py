"""The service's commands: serve, and what needs no server: check and explain.

Each imports what it needs itself: a server starts half a second sooner without the others'.
"""

import argparse
import mimetypes
import sys
from pathlib import Path

from service.errors import BadRequest
from service.settings import ConfigurationError, read_settings, with_bundled_default


def main() -> int:
    """Read the command line and do what it says; a fault is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    add_serve(commands.add_parser("serve", help="answer HTTP requests until told to stop"))
    add_check(commands.add_parser("check", help="load a tree as the server would, and report"))
    add_explain(commands.add_parser("explain", help="explain one picture"))
    options = parser.parse_args()
    try:
        code: int = options.run(options)
    except (ConfigurationError, BadRequest) as fault:
        sys.exit(str(fault))
    return code


def add_serve(parser: argparse.ArgumentParser) -> None:
    """`serve --host --port`."""
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=3000, help="port to listen on")
    parser.set_defaults(run=run_serve)


def run_serve(options: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from service.cli.serve import serve

    return serve(options.host, options.port)


def add_check(parser: argparse.ArgumentParser) -> None:
    """`check MODELS`; its exit code is 1 if any model is unfit."""
    parser.add_argument("models", type=Path, nargs="?", help="the tree; else MODELS_DIR")
    parser.set_defaults(run=run_check)


def run_check(options: argparse.Namespace) -> int:
    """Print the table."""
    from service.cli.offline import check

    settings = read_settings()
    table, fit = check(options.models or settings.models_dir, settings)
    print(table)
    return 0 if fit else 1


def add_explain(parser: argparse.ArgumentParser) -> None:
    """`explain PICTURE -o HEATMAP`, with the parameters of `POST /gradcam`."""
    parser.add_argument("picture", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .png, .jpg or .webp")
    parser.add_argument("--model", help="name or name/version; else the default model")
    parser.add_argument("--target", help="the label to explain; else the most probable")
    parser.add_argument("--against", help="why the target and not this label")
    parser.add_argument("--view", help="overlay, heatmap or signed")
    parser.add_argument("--colormap", help="viridis, turbo or gray")
    parser.add_argument("--alpha", help="opacity of full heat, 0..1")
    parser.add_argument("--size", help="longer side of the drawn picture")
    parser.add_argument("--verify", action="store_true", default=None, help="test the map, too")
    parser.set_defaults(run=run_explain)


def run_explain(options: argparse.Namespace) -> int:
    """Write the picture, print what the model says."""
    from service.api.options import validate_options
    from service.cli.offline import CommandError, explain
    from service.imaging.heatmap import ENCODINGS
    from service.schemas import ExplainOptions

    media_type = mimetypes.guess_type(options.output.name)[0]
    if media_type not in ENCODINGS:
        raise CommandError(f"{options.output} is no picture's name: end it in .png, .jpg or .webp.")
    names = ("model", "target", "against", "view", "colormap", "alpha", "size", "verify")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if "target" in given:
        given["target"] = [given["target"]]
    wishes = validate_options(ExplainOptions, given)
    model, drawing = explain(
        options.picture, wishes, media_type, with_bundled_default(read_settings())
    )
    options.output.write_bytes(drawing.content)
    predicted, target = drawing.predicted, drawing.target
    print(f"{model}: {predicted['label']} ({predicted['probability']:.1%})")
    print(f"{options.output}: why {target['label']} ({target['probability']:.1%})")
    if (verified := drawing.verification) and verified["hot_blurred"] is not None:
        print(f"without the hottest fifth {verified['hot_blurred']:.1%}")
        print(f"without the coldest fifth {verified['cold_blurred']:.1%}")
    elif verified:
        print("the map is empty: there is nothing to verify")
    return 0


if __name__ == "__main__":
    sys.exit(main())
