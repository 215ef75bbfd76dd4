"""Turns torch's long errors about graphs that cannot be exported into one sentence.

Knows nothing of what is exported.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._dynamo.exc import UserError as DynamoUserError
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
)
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from training.errors import UserError

OPERATION = re.compile(r"target=torch\.ops\.\w+\.(\w+)")


@contextmanager
def explain_export_errors(layer: str) -> Iterator[None]:
    """Translate torch's export errors in this block to a UserError that names the target layer.

    Raises:
        UserError: an operation is missing in the exporter, the network branches on values, or it
            works for one batch size only.
    """
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        match = OPERATION.search(str(error))
        raise UserError(
            f"The ONNX exporter does not support {match[1] if match else 'an operation'!r}, which "
            f"this network needs for an explanation at {layer!r}. No file was written. "
            "Try a later layer."
        ) from error
    except (
        GuardOnDataDependentSymNode,
        DataDependentOutputException,
        DynamicOutputShapeException,
    ) as error:
        raise UserError(
            "The network branches on the values of a picture, which a graph cannot do. "
            "No file was written. Use torch.where instead of the branch."
        ) from error
    except DynamoUserError as error:
        raise UserError(
            f"The network, or its gradient at {layer!r}, works for one batch size only. "
            "No file was written. Its forward must not depend on the number of pictures."
        ) from error
