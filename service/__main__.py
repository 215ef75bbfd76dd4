"""The service's commands, as `python -m service serve`."""

import argparse
import sys

from service.launch import LaunchFault, serve
from service.settings import DeviceFault, SettingsFault


def main() -> int:
    """Read the command line and do what it says; a fault is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m service", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    serving = commands.add_parser("serve", help="answer HTTP requests until told to stop")
    serving.add_argument("--host", default="127.0.0.1", help="address to listen on")
    serving.add_argument("--port", type=int, default=3000, help="port to listen on")
    serving.set_defaults(run=lambda options: serve(options.host, options.port))
    options = parser.parse_args()
    try:
        code: int = options.run(options)
    except (LaunchFault, SettingsFault, DeviceFault) as fault:
        sys.exit(str(fault))
    return code


if __name__ == "__main__":
    sys.exit(main())
