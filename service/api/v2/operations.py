"""The OpenAPI description of the protocol's `infer` call."""

from typing import Any

from service.api.operations import CONTENT_ENCODING, JsonObject, make_example_image, refer
from service.api.v2.schemas import InferCall
from service.http.form import JSON_TYPE

BINARY_TYPE = "application/octet-stream"
BINARY: JsonObject = {"type": "string", "format": "binary"}
PARAMETERS: list[JsonObject] = [
    {
        "name": "Inference-Header-Content-Length",
        "in": "header",
        "description": "Length of the JSON in bytes, if binary data follows it",
        "schema": {"type": "integer"},
    },
    CONTENT_ENCODING,
]


class InferBody:
    """Tensors as JSON, or JSON with binary data after it."""

    schemas: tuple[Any, ...] = (InferCall,)

    def describe_parameters(self) -> list[JsonObject]:
        """Return the headers."""
        return PARAMETERS

    def describe_content(self) -> JsonObject:
        """Return the schema of the body by media type."""
        data = [make_example_image()]
        image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": data}
        target = {"name": "target", "datatype": "INT64", "shape": [1, 1], "data": [-1]}
        example = {"inputs": [image, target]}
        return {
            JSON_TYPE: {"schema": refer(InferCall), "example": example},
            BINARY_TYPE: {"schema": BINARY},
        }
