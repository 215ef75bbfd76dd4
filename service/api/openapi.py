"""The OpenAPI 3.1 document, generated from the route table that serves."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from service.api.error_responses import choose_error_schema
from service.api.operations import REF, JsonObject, Operation, refer
from service.api.routing import Endpoint
from service.errors import ApiError, Unauthorized
from service.http.form import JSON_TYPE

INFO = {
    "title": "Sightglass",
    "version": "1",
    "summary": "Image classification with an explanation: the model's answer and what it saw",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}


GROUPS = (  # name, description, and how its paths begin: the first that fits counts
    ("Pictures", "Classify a picture and explain the answer.",
     ("/predict", "/gradcam", "/segment")),
    ("Models and status", "What there is, and whether it is ready.",
     ("/models", "/livez", "/readyz", "/metrics")),
    ("KServe V1", "The same models through KServe's V1 protocol.", ("/v1",)),
    ("Open Inference Protocol", "The same models through KServe's and Triton's V2 protocol.",
     ("/v2",)),
    ("Pages", "What a browser shows.", ("/",)),
)  # fmt: skip


def find_group(path: str) -> str:
    """Return the name of the group that a path belongs to."""
    return next(name for name, _, starts in GROUPS if path.startswith(starts))


def make_openapi(endpoints: Sequence[Endpoint], needs_key: bool) -> JsonObject:
    """Make the whole document; `needs_key` if API keys are set."""
    paths: JsonObject = {}
    for endpoint in endpoints:
        described = describe_endpoint(endpoint, needs_key)
        paths.setdefault(endpoint.path_format, {})[endpoint.method.lower()] = described
    components: JsonObject = {"schemas": _describe_schemas(endpoints)}
    document: JsonObject = {
        "openapi": "3.1.0",
        "jsonSchemaDialect": GenerateJsonSchema.schema_dialect,
        "info": INFO,
        "tags": [{"name": name, "description": text} for name, text, _ in GROUPS],
        "paths": paths,
        "components": components,
    }
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def describe_endpoint(endpoint: Endpoint, needs_key: bool) -> JsonObject:
    """Describe one endpoint: an operation object."""
    operation = endpoint.operation
    described: JsonObject = {
        "operationId": operation.id,
        "tags": [find_group(endpoint.path_format)],
        "summary": operation.summary,
        "responses": _describe_responses(operation),
    }
    failures = (*operation.errors, Unauthorized) if needs_key else operation.errors
    described["responses"] |= _describe_errors(failures, choose_error_schema(endpoint.path))
    parameters = [_describe_path_parameter(name) for name in endpoint.param_convertors]
    parameters += operation.query
    if operation.body:
        parameters += operation.body.describe_parameters()
        content = operation.body.describe_content()
        described["requestBody"] = {"required": True, "content": content}
    if parameters:
        described["parameters"] = parameters
    return described


def _describe_responses(operation: Operation) -> JsonObject:
    content = {
        media_type: {"schema": shape if isinstance(shape, dict) else refer(shape)}
        for media_type, shape in operation.response.items()
    }
    responses: JsonObject = {"200": {"description": "The response", "content": content}}
    if operation.not_ready:
        responses["503"] = {"description": operation.not_ready, "content": content}
    return responses


def _describe_errors(kinds: Iterable[type[ApiError]], shape: Any) -> JsonObject:
    """Describe the errors by status."""
    meanings: dict[str, list[str]] = {}
    for kind in kinds:
        meaning = (kind.__doc__ or "").splitlines()[0]
        meanings.setdefault(str(kind.status), []).append(f"`{kind.code}`: {meaning}")
    content = {JSON_TYPE: {"schema": refer(shape)}}
    return {
        status: {"description": " ".join(texts), "content": content}
        for status, texts in sorted(meanings.items())
    }


def _describe_path_parameter(name: str) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _describe_schemas(endpoints: Iterable[Endpoint]) -> JsonObject:
    """Describe each type that the endpoints refer to, once."""
    written: list[Any] = []
    read: list[Any] = []
    for endpoint in endpoints:
        operation = endpoint.operation
        written.append(choose_error_schema(endpoint.path))
        written += [shape for shape in operation.response.values() if not isinstance(shape, dict)]
        read += operation.body.schemas if operation.body else ()
    shapes = {shape.__name__: ("serialization", shape) for shape in written}
    shapes |= {shape.__name__: ("validation", shape) for shape in read}
    inputs = [(name, mode, TypeAdapter(shape)) for name, (mode, shape) in shapes.items()]
    _, described = TypeAdapter.json_schemas(inputs, ref_template=REF)  # type: ignore[arg-type]
    schemas: JsonObject = described["$defs"]
    return schemas
