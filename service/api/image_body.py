"""The OpenAPI description of a body that carries images: multipart, JSON or raw bytes."""

import json
from dataclasses import dataclass
from typing import Any

from service.api.operations import CONTENT_ENCODING, REF, JsonObject, make_example_image
from service.http.form import JSON_TYPE, MULTIPART_TYPE
from service.parameters import MAX_BATCH_IMAGES, ModelOptions

ENCODED: JsonObject = {
    "type": "string",
    "contentEncoding": "base64",
    "minLength": 1,
    "description": "With or without line breaks, padding and a `data:` prefix; in either alphabet",
}
FIELD: JsonObject = {"description": "The field may also be called `file`"}
BINARY: JsonObject = {
    "type": "string",
    "format": "binary",  # makes clients offer a file field
    "contentMediaType": "application/octet-stream",
    "minLength": 1,
}
LIST: JsonObject = {"type": "array", "minItems": 1, "maxItems": MAX_BATCH_IMAGES}


@dataclass(frozen=True)
class ImageBody:
    """One image, or a batch of them, with the parameters that `options` validates."""

    options: type[ModelOptions]
    is_batch: bool = False
    schemas: tuple[Any, ...] = ()

    def describe_parameters(self) -> list[JsonObject]:
        """Return the parameters of the URL, because a raw body has no other place, and headers."""
        options = describe_options(self.options).items()
        return [*(describe_in_query(name, schema) for name, schema in options), CONTENT_ENCODING]

    def describe_content(self) -> JsonObject:
        """Return the schema of the body by media type."""
        options = describe_options(self.options)
        image = make_example_image()
        if self.is_batch:
            example: JsonObject = {"images": [image, image], "top_k": 1}
            in_json, in_form = (
                {"images": LIST | {"items": ENCODED}},
                LIST | {"items": BINARY} | FIELD,
            )
        else:
            example = {"image": image}
            in_json, in_form = {"image": ENCODED}, BINARY | FIELD
        content: JsonObject = {
            MULTIPART_TYPE: {"schema": describe_object({"image": in_form}, options)},
            JSON_TYPE: {"schema": describe_object(in_json, options), "example": example},
        }
        if not self.is_batch:
            content["application/octet-stream"] = {"schema": BINARY}
        return content


def describe_in_query(name: str, schema: JsonObject) -> JsonObject:
    """Return the description of a parameter in the URL.

    Its default is in words only. Generated clients send each default that they find, and the form
    or JSON has the same parameter, which would then be given twice.
    """
    default, description = schema.get("default"), schema["description"]
    if default not in (None, []):
        description += f". Default: {json.dumps(default)}"
    schema = {key: value for key, value in schema.items() if key != "default"}
    return {"name": name, "in": "query", "description": description, "schema": schema}


def describe_options(options: type[ModelOptions]) -> JsonObject:
    """Return the schema of each parameter by its name."""
    schema = options.model_json_schema(ref_template=REF)
    described: JsonObject = _inline(schema["properties"], schema.get("$defs", {}))
    return described


def describe_object(required: JsonObject, optional: JsonObject) -> JsonObject:
    """Return the schema of an object that has these properties and no others."""
    return {
        "type": "object",
        "properties": required | optional,
        "required": [*required],
        "additionalProperties": False,
    }


def _inline(schema: Any, definitions: JsonObject) -> Any:
    """Replace each reference by the (small) definition that it refers to."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return definitions[schema["$ref"].rpartition("/")[2]]
        return {key: _inline(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    return schema
