"""The commands: `run` measures and writes the pages, `page` writes them from the last run."""

import argparse
import sys
from pathlib import Path

from benchmarks.client import ClientFault
from benchmarks.material import ROOT
from benchmarks.plot import draw
from benchmarks.rounds import FULL, RESULTS, Plan, run
from benchmarks.samples import Results, read_results
from benchmarks.server import ServerFault
from benchmarks.table import make_targets, write_pages

PAGES = [
    ROOT / "docs" / "explanation" / name for name in ("benchmarks.md", "benchmarks-results.md")
]
PICTURE = ROOT / "docs" / "pictures" / "benchmarks.png"


def main() -> int:
    """Read the command line and do what it says; a fault is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=("run", "page"), nargs="?", default="run")
    parser.add_argument("--full", action="store_true", help="the whole matrix, for hours")
    parser.add_argument("--rounds", type=int, help="at most so many")
    parser.add_argument("--minutes", type=float, help="no round begins that would not end by then")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the raw figures")
    parser.add_argument("--only-ours", action="store_true", help="no others, and no page")
    options = parser.parse_args()
    try:
        results = (
            run(make_plan(options), options.results, lambda line: print(line, flush=True))
            if options.command == "run"
            else read_results(options.results)
        )
    except (ClientFault, ServerFault) as fault:
        sys.exit(str(fault))
    if not options.only_ours:
        write(results)
    print(make_targets(results))
    return 0


def make_plan(options: argparse.Namespace) -> Plan:
    """What the command line asks for."""
    plan = FULL if options.full else Plan()
    given = {name: getattr(options, name) for name in ("rounds", "minutes")}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.only_ours:
        changes["others"] = False
    return Plan(**(vars(plan) | changes))


def write(results: Results) -> None:
    """The pages and their picture."""
    write_pages(results, PAGES)
    draw(results, PICTURE)


if __name__ == "__main__":
    sys.exit(main())
