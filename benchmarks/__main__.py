"""Runs the benchmarks: `run` measures and writes pages, `page` writes them from the last run."""

import argparse
import sys
from pathlib import Path

from benchmarks.client import ClientError
from benchmarks.material import ROOT
from benchmarks.plot import draw
from benchmarks.rounds import FULL, RESULTS, Plan, run
from benchmarks.samples import Results, read_results
from benchmarks.server import ServerError
from benchmarks.table import make_targets, write_pages

PAGES = [
    ROOT / "docs" / "explanation" / name for name in ("benchmarks.md", "benchmarks-results.md")
]
PICTURE = ROOT / "docs" / "pictures" / "benchmarks.png"


def main() -> int:
    """Run the command that the command line names. An error is one sentence."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("command", choices=("run", "page"), nargs="?", default="run")
    parser.add_argument(
        "--full", action="store_true", help="measure all combinations, which takes hours"
    )
    parser.add_argument("--rounds", type=int, help="maximum number of rounds, for example 3")
    parser.add_argument(
        "--minutes", type=float, help="start no round that would end later, for example 20"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of the raw figures")
    parser.add_argument(
        "--only-ours", action="store_true", help="measure no other servers and write no page"
    )
    options = parser.parse_args()
    try:
        results = (
            run(make_plan(options), options.results, lambda line: print(line, flush=True))
            if options.command == "run"
            else read_results(options.results)
        )
    except (ClientError, ServerError) as exc:
        sys.exit(str(exc))
    if not options.only_ours:
        write(results)
    print(make_targets(results))
    return 0


def make_plan(options: argparse.Namespace) -> Plan:
    """Make the plan that the command line describes."""
    plan = FULL if options.full else Plan()
    given = {name: getattr(options, name) for name in ("rounds", "minutes")}
    changes = {name: value for name, value in given.items() if value is not None}
    if options.only_ours:
        changes["others"] = False
    return Plan(**(vars(plan) | changes))


def write(results: Results) -> None:
    """Write the pages and their picture."""
    write_pages(results, PAGES)
    draw(results, PICTURE)


if __name__ == "__main__":
    sys.exit(main())
