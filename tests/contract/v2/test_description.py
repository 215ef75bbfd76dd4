"""Answers of `/v2` match the schemas in `/openapi.json`."""

from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.server import Server

NAMES = {"{name}": "quadrants", "{version}": "1"}


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    """The content of `/openapi.json`."""
    described: dict[str, Any] = server.client.get("/openapi.json").json()
    return described


def check(document: dict[str, Any], answered: dict[str, Any], answer: object) -> None:
    """Fail if an answer does not match the schema."""
    schema = answered["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator(schema | {"components": document["components"]}).validate(
        answer
    )


def test_every_answer_matches_the_schema(server: Server, document: dict[str, Any]) -> None:
    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        if path.startswith("/v2")
        for method, operation in methods.items()
    ]
    assert len(operations) == 12
    for path, method, operation in operations:
        for placeholder, name in NAMES.items():
            path = path.replace(placeholder, name)
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        response = server.client.request(method, path, json=body.get("example"))
        assert response.status_code == 200, response.text
        check(document, operation["responses"]["200"], response.json())


@pytest.mark.parametrize("call", ["", "/ready", "/config", "/infer"])
def test_errors_match_the_schema(server: Server, document: dict[str, Any], call: str) -> None:
    [(method, operation)] = document["paths"]["/v2/models/{name}" + call].items()
    response = server.client.request(method, f"/v2/models/nowhere{call}")
    check(document, operation["responses"][str(response.status_code)], response.json())


def test_the_document_describes_what_a_request_may_contain(document: dict[str, Any]) -> None:
    described = document["components"]["schemas"]["InferCall"]
    assert set(described["properties"]) == {"id", "inputs", "outputs", "parameters"}
    assert described["required"] == ["inputs"]
