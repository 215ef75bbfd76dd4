"""Why a network can't become one graph: the compilers' pages of reasons as one sentence.

Knows nothing of what is being compiled.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._dynamo.exc import UserError as Specialized
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from training.errors import UserError

OPERATION = re.compile(r"target=torch\.ops\.\w+\.(\w+)")


@contextmanager
def explain_export_errors(layer: str) -> Iterator[None]:
    """What torch refuses while a graph with its explanation at this layer is made, as a sentence.

    Raises:
        UserError: an operation that ONNX can't say, a branch on values, or a size that froze.
    """
    try:
        yield
    except torch.onnx.OnnxExporterError as fault:
        found = OPERATION.search(str(fault))
        raise UserError(
            f"The exporter to ONNX can't say {found[1] if found else 'an operation'!r}, which this "
            f"network needs for an explanation at {layer!r}; nothing was written. A later layer "
            "may do without it."
        ) from fault
    except (
        GuardOnDataDependentSymNode,
        DataDependentOutputException,
        DynamicOutputShapeException,
    ) as fault:
        raise UserError(
            "The network decides by the values of a picture what to compute, which one graph for "
            "all pictures can't; nothing was written. torch.where in its place can."
        ) from fault
    except Specialized as fault:
        raise UserError(
            f"The network, or its gradient at {layer!r}, holds only for one size of the batch; "
            "nothing was written. Its forward must not depend on how many pictures there are."
        ) from fault
