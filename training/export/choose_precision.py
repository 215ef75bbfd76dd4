"""`--precision auto`: the fastest graph within bounds, else weights in 16 bits."""

from dataclasses import replace
from typing import Any

from training.artifact.precision_loss import extract_prediction_graph
from training.evaluate.precision_search import Tried, find_fast_graph
from training.export.request import ExportRequest
from training.export.served_graph import (
    CheckedNetwork,
    ServedGraph,
    check_network,
    compile_network,
    finish_graph,
    lower_precision,
)

FALLBACK = "w16"


def choose_precision(request: ExportRequest, checked: CheckedNetwork) -> ServedGraph:
    """Search on the held-out pictures of the request.

    Raises:
        CheckError: no graph is within the bounds, and weights in 16 bits lose too much, too.
    """
    compiled = checked.compiled
    assert request.test is not None  # as check_request knows
    assert request.calibration is not None
    search = find_fast_graph(compiled.graph.proto, request.calibration, request.test, request.say)
    tried = [describe_row(one) for one in search.tried]
    if (found := search.found) is None:
        request.say(f"no graph in 8 bits is within the bounds, so the precision is {FALLBACK}")
        options = replace(compiled.network.options, precision=FALLBACK)
        network = replace(compiled.network, options=options)
        served = lower_precision(request, check_network(request, compile_network(request, network)))
        served.checks["precision"] |= {"tried": tried}
        return served
    precision = "mixed" if found.candidate.kept else "int8"
    checks = checked.checks | {
        "precision": {
            "precision": precision,
            **found.figures,
            "candidate": str(found.candidate),
            "engines": search.engines,
            "tried": tried,
        }
    }
    plain = extract_prediction_graph(found.proto)
    served = finish_graph(request, compiled, found.proto, plain, checks, precision)
    demands = {"engines": [name for name, missed in search.engines.items() if not missed]}
    if found.candidate.eighth_bit:
        demands["requires"] = ["vnni"]
    return replace(served, demands=demands)


def describe_row(tried: Tried) -> dict[str, Any]:
    """A candidate as a row of the card's table."""
    return {"candidate": str(tried.candidate), **tried.figures}
