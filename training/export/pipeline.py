"""From a network to a model file. Each step takes the value of the step before it.

ExportRequest → TargetNetwork → CompiledNetwork → CheckedNetwork → ServedGraph → MeasuredGraph →
folder. Requests come from a checkpoint (`checkpoint`) or from elsewhere (`import_network`).
"""

from pathlib import Path

from training.export.choose_precision import choose_precision
from training.export.measured_graph import measure_graph
from training.export.request import AUTO, ExportRequest, check_request
from training.export.served_graph import (
    check_network,
    choose_target,
    compile_network,
    lower_precision,
)
from training.export.version_folder import write_version


def export_model(request: ExportRequest) -> Path:
    """Compile, check, measure, describe and store a model; returns the folder of its version.

    Raises:
        UserError: the request is not valid, or the network cannot be exported.
        CheckError: a check of the graph failed. No file was written.
    """
    check_request(request)
    network = choose_target(request)
    compiled = compile_network(request, network)
    checked = check_network(request, compiled)
    choose = choose_precision if request.precision == AUTO else lower_precision
    served = choose(request, checked)
    measured = measure_graph(request, served)
    return write_version(request, measured)
