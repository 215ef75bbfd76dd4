"""What the OpenAPI document says about one endpoint. `openapi` makes the document of it."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image

from service import errors
from service.errors import ApiError

REF = "#/components/schemas/{model}"
JsonObject = dict[str, Any]

PICTURE: JsonObject = {"type": "string", "format": "binary"}
CONTENT_ENCODING: JsonObject = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "How the body is compressed",
    "schema": {"enum": ["gzip", "deflate", "identity"]},
}
MODEL_ERRORS = (errors.ModelNotFound, errors.NotReady)
INFERENCE_ERRORS = (
    errors.BadRequest,
    *MODEL_ERRORS,
    errors.RequestTimeout,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidImage,
    errors.ImageTooLarge,
    errors.Overloaded,
    errors.Timeout,
    errors.InternalError,
)


class RequestBody(Protocol):
    """The body of a request, and the parameters that belong to it."""

    @property
    def schemas(self) -> tuple[Any, ...]:
        """The shapes that the description refers to."""

    def describe_parameters(self) -> list[JsonObject]:
        """Return the parameters in the query and the headers."""

    def describe_content(self) -> JsonObject:
        """Return the schema of the body by media type."""


@dataclass(frozen=True)
class Operation:
    """The description of one endpoint; its path and method are in `Endpoint`."""

    id: str
    summary: str
    response: Mapping[str, Any]  # by media type: a type, or a JSON schema
    errors: tuple[type[ApiError], ...] = ()
    body: RequestBody | None = None
    query: tuple[JsonObject, ...] = ()
    not_ready: str | None = None  # what 503 means, with the same response


def refer(shape: Any) -> JsonObject:
    """Return a reference to a type among the components of the document."""
    return {"$ref": REF.format(model=shape.__name__)}


def make_example_image() -> str:
    """Return an image that every model accepts, in base64."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((32, 32)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
