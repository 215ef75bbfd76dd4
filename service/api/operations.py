"""What any operation of the OpenAPI description is made of: references, answers, refusals."""

import base64
import io
from collections.abc import Iterable
from typing import Any

from PIL import Image

from service.errors import ApiError
from service.http.form import JSON_TYPE
from service.schemas import ErrorAnswer

REF = "#/components/schemas/{model}"
JsonObject = dict[str, Any]


def refer(shape: Any) -> JsonObject:
    """A reference to a shape among the document's components."""
    return {"$ref": REF.format(model=shape.__name__)}


def describe_errors(faults: Iterable[type[ApiError]], shape: Any = ErrorAnswer) -> JsonObject:
    """The refusals by status, told in that shape."""
    told: dict[str, list[str]] = {}
    for fault in faults:
        meaning = (fault.__doc__ or "").splitlines()[0]
        told.setdefault(str(fault.status), []).append(f"`{fault.code}`: {meaning}")
    content = {JSON_TYPE: {"schema": refer(shape)}}
    return {
        status: {"description": " ".join(texts), "content": content}
        for status, texts in sorted(told.items())
    }


def make_example() -> str:
    """A picture that any model takes, in base64."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
