"""The Open Inference Protocol's part of the OpenAPI description."""

from typing import Any

from service import errors
from service.api.operations import JsonObject, describe_errors, make_example, refer
from service.api.v2.schemas import (
    Index,
    InferAnswer,
    InferCall,
    Liveness,
    ModelConfig,
    ModelMetadata,
    ModelReadiness,
    ProtocolError,
    ServerMetadata,
    ServerReadiness,
)
from service.http.form import JSON_TYPE

REQUESTS: tuple[Any, ...] = (InferCall,)
ANSWERS: tuple[Any, ...] = (
    Index,
    InferAnswer,
    Liveness,
    ModelConfig,
    ModelMetadata,
    ModelReadiness,
    ProtocolError,
    ServerMetadata,
    ServerReadiness,
)
MODEL_ERRORS = (errors.ModelNotFound, errors.NotReady)
INFER_ERRORS = (
    errors.BadRequest,
    *MODEL_ERRORS,
    errors.RequestTimeout,
    errors.PayloadTooLarge,
    errors.UnsupportedMediaType,
    errors.InvalidImage,
    errors.ImageTooLarge,
    errors.UnknownLabel,
    errors.Overloaded,
    errors.Timeout,
    errors.InternalError,
)
BINARY: JsonObject = {"schema": {"type": "string", "format": "binary"}}


def make_protocol_paths() -> JsonObject:
    """All paths under `/v2`."""
    paths: JsonObject = {
        "/v2": {"get": _describe("serverMetadata", "What this server is", ServerMetadata)},
        "/v2/health/live": {
            "get": _describe("serverLive", "Whether the process is alive", Liveness)
        },
        "/v2/health/ready": {"get": _describe_readiness()},
        "/v2/repository/index": {
            "post": _describe("repositoryIndex", "All versions and their states", Index)
        },
    }
    for names in (("name",), ("name", "version")):
        path = "/v2/models/{name}" + ("/versions/{version}" if "version" in names else "")
        suffix = "Version" if "version" in names else ""
        parameters = [_describe_name(name) for name in names]
        calls = {
            "": ("get", _describe_model("modelMetadata", "Its tensors", ModelMetadata, suffix)),
            "/ready": ("get", _describe_model("modelReady", "Ready?", ModelReadiness, suffix)),
            "/config": (
                "get",
                _describe_model("modelConfig", "As Triton configures it", ModelConfig, suffix),
            ),
            "/infer": ("post", _describe_infer(suffix)),
        }
        for call, (method, operation) in calls.items():
            operation["parameters"] = parameters + operation.get("parameters", [])
            paths[path + call] = {method: operation}
    return paths


def _describe(
    operation: str, summary: str, shape: Any, faults: tuple[type[errors.ApiError], ...] = ()
) -> JsonObject:
    answer = {"description": "The answer", "content": {JSON_TYPE: {"schema": refer(shape)}}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": answer} | describe_errors(faults, ProtocolError),
    }


def _describe_readiness() -> JsonObject:
    described = _describe("serverReady", "Whether requests should be sent here", ServerReadiness)
    responses = described["responses"]
    responses["503"] = responses["200"] | {"description": "Not now"}
    return described


def _describe_model(operation: str, summary: str, shape: Any, suffix: str) -> JsonObject:
    return _describe(f"{operation}{suffix}", summary, shape, MODEL_ERRORS)


def _describe_infer(suffix: str) -> JsonObject:
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [make_example()]}
    target = {"name": "target", "datatype": "INT64", "shape": [1, 1], "data": [-1]}
    described = _describe(
        f"infer{suffix}", "Outputs for up to 64 pictures", InferAnswer, INFER_ERRORS
    )
    described["responses"]["200"]["content"]["application/octet-stream"] = BINARY
    return described | {
        "parameters": [
            {
                "name": "Inference-Header-Content-Length",
                "in": "header",
                "description": "Bytes of the JSON where binary data follows it",
                "schema": {"type": "integer"},
            },
            {
                "name": "Content-Encoding",
                "in": "header",
                "description": "How the body is packed",
                "schema": {"enum": ["gzip", "deflate", "identity"]},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                JSON_TYPE: {"schema": refer(InferCall), "example": {"inputs": [image, target]}},
                "application/octet-stream": BINARY,
            },
        },
    }


def _describe_name(name: str) -> JsonObject:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
