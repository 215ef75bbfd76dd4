"""The OpenAPI 3.1 description, made from the schemas that validate requests and shape answers."""

from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from service import errors
from service.api.operations import REF, JsonObject, describe_errors, make_example, refer
from service.api.v2.openapi import ANSWERS, REQUESTS, make_protocol_paths
from service.api.v2.schemas import ProtocolError
from service.http.form import JSON_TYPE, MULTIPART_TYPE
from service.imaging.heatmap import ENCODINGS
from service.schemas import (
    MAX_BATCH_IMAGES,
    Answer,
    AttentionAnswer,
    BatchAnswer,
    ErrorAnswer,
    ExplainOptions,
    ModelEntry,
    Models,
    PredictOptions,
    Readiness,
)

TITLE = "Sightglass"
SHAPES = (Answer, AttentionAnswer, BatchAnswer, ErrorAnswer, ModelEntry, Models, Readiness)

MODEL_ERRORS = (errors.ModelNotFound, errors.NotReady)
IMAGE_ERRORS = (
    errors.BadRequest,
    *MODEL_ERRORS,
    errors.NotAcceptable,
    errors.RequestTimeout,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidImage,
    errors.ImageTooLarge,
    errors.Overloaded,
    errors.Timeout,
    errors.InternalError,
)
EXPLAIN_ERRORS = (*IMAGE_ERRORS, errors.UnknownLabel)


@cache
def make_openapi(needs_key: bool) -> JsonObject:
    """The whole document; `needs_key` where API keys are set."""
    shapes = [
        *((shape.__name__, "serialization", TypeAdapter(shape)) for shape in (*SHAPES, *ANSWERS)),
        *((shape.__name__, "validation", TypeAdapter(shape)) for shape in REQUESTS),
    ]
    protocol_paths = make_protocol_paths()
    _, definitions = TypeAdapter.json_schemas(shapes, ref_template=REF)  # type: ignore[arg-type]
    document: JsonObject = {
        "openapi": "3.1.0",
        "jsonSchemaDialect": GenerateJsonSchema.schema_dialect,
        "info": {
            "title": TITLE,
            "version": "1",
            "summary": "Image classification that shows what it saw",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _make_paths() | protocol_paths,
        "components": {"schemas": definitions["$defs"]},
    }
    if needs_key:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
        for path, operations in document["paths"].items():
            shape = ProtocolError if path in protocol_paths else ErrorAnswer
            for operation in operations.values():
                operation["responses"] |= describe_errors((errors.Unauthorized,), shape)
    return document


def _make_paths() -> JsonObject:
    pictures = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ENCODINGS}
    name = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    version = {
        "name": "version",
        "in": "query",
        "description": "Else the one that answers",
        "schema": {"type": "string"},
    }
    return {
        "/predict": {
            "post": _describe_call(
                "predict", "The most probable labels of one image", PredictOptions, False
            )
        },
        "/predict/batch": {
            "post": _describe_call(
                "predictBatch", "The same for several images, each on its own", PredictOptions, True
            )
        },
        "/gradcam": {
            "post": _describe_call(
                "gradcam",
                "Why the model says so: a picture or numbers",
                ExplainOptions,
                False,
                pictures,
            )
        },
        "/gradcam/batch": {
            "post": _describe_call(
                "gradcamBatch", "The same in numbers for several images", ExplainOptions, True
            )
        },
        "/models": {"get": _describe_get("models", "All models and their versions", Models)},
        "/models/{name}": {
            "get": _describe_get("model", "One model", ModelEntry, errors.ModelNotFound)
            | {"parameters": [name]}
        },
        "/models/{name}/attention": {
            "get": _describe_get(
                "attention",
                "Where a model looks, beside where it looked at the export",
                AttentionAnswer,
                errors.BadRequest,
                *MODEL_ERRORS,
            )
            | {"parameters": [name, version]}
        },
        "/livez": {"get": _describe_get("livez", "Whether the process is alive", dict[str, bool])},
        "/readyz": {"get": _describe_readiness()},
        "/metrics": {"get": _describe_page("metrics", "Metrics for Prometheus", "text/plain")},
        "/": {"get": _describe_page("page", "The page for people", "text/html")},
        "/page/{name}": {
            "get": _describe_page("part", "What the pages are made of", "*/*", errors.NotFound)
            | {"parameters": [name]}
        },
        "/docs": {"get": _describe_page("docs", "This description to try out", "text/html")},
        "/openapi.json": {"get": _describe_page("openapi", "This description", JSON_TYPE)},
    }


def _describe_call(
    operation: str,
    summary: str,
    options: type[PredictOptions],
    several: bool,
    pictures: JsonObject | None = None,
) -> JsonObject:
    answer = BatchAnswer if several else Answer
    faults = EXPLAIN_ERRORS if options is ExplainOptions else IMAGE_ERRORS
    answers = {**(pictures or {}), JSON_TYPE: {"schema": refer(answer)}}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": _describe_query(options),
        "requestBody": {"required": True, "content": _describe_bodies(options, several)},
        "responses": {"200": {"description": "The answer", "content": answers}}
        | describe_errors(faults),
    }


def _describe_bodies(options: type[PredictOptions], several: bool) -> JsonObject:
    parameters = _describe_parameters(options)
    encoded = {"type": "string", "contentEncoding": "base64", "minLength": 1}
    binary = {"type": "string", "contentMediaType": "application/octet-stream", "minLength": 1}
    listed = {"type": "array", "minItems": 1, "maxItems": MAX_BATCH_IMAGES}
    example = make_example()
    if several:
        in_json = {"images": listed | {"items": encoded}}
        in_form = {"image": listed | {"items": binary}}
        example_json: JsonObject = {"images": [example, example], "top_k": 1}
    else:
        in_json, in_form = {"image": encoded}, {"image": binary}
        example_json = {"image": example, "top_k": 1}
    bodies: JsonObject = {
        MULTIPART_TYPE: {"schema": _describe_object(in_form | parameters, [*in_form])},
        JSON_TYPE: {
            "schema": _describe_object(in_json | parameters, [*in_json]),
            "example": example_json,
        },
    }
    if not several:
        bodies["application/octet-stream"] = {"schema": binary}
    return bodies


def _describe_parameters(options: type[PredictOptions]) -> JsonObject:
    schema = options.model_json_schema(ref_template=REF)
    described: JsonObject = _inline(schema["properties"], schema.get("$defs", {}))
    return described


def _describe_query(options: type[PredictOptions]) -> list[JsonObject]:
    """The same parameters in the URL, for which a raw body has no place."""
    return [
        {"name": name, "in": "query", "description": schema["description"], "schema": schema}
        for name, schema in _describe_parameters(options).items()
    ]


def _describe_object(properties: JsonObject, required: list[str]) -> JsonObject:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _inline(schema: Any, definitions: JsonObject) -> Any:
    """The schema with its own small definitions (the enumerations) in their places."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return definitions[schema["$ref"].rpartition("/")[2]]
        return {key: _inline(value, definitions) for key, value in schema.items()}
    if isinstance(schema, list):
        return [_inline(item, definitions) for item in schema]
    return schema


def _describe_get(
    operation: str, summary: str, shape: Any, *faults: type[errors.ApiError]
) -> JsonObject:
    schema = refer(shape) if shape in SHAPES else TypeAdapter(shape).json_schema()
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {
            "200": {"description": "The answer", "content": {JSON_TYPE: {"schema": schema}}}
        }
        | describe_errors(faults),
    }


def _describe_page(
    operation: str, summary: str, media_type: str, *faults: type[errors.ApiError]
) -> JsonObject:
    content: JsonObject = {media_type: {"schema": {}}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": {"description": "The page", "content": content}}
        | describe_errors(faults),
    }


def _describe_readiness() -> JsonObject:
    described = _describe_get("readyz", "Whether requests should be sent here", Readiness)
    content = {JSON_TYPE: {"schema": refer(Readiness)}}
    described["responses"]["503"] = {"description": "Not now, and why", "content": content}
    return described
