"""The OpenAPI document is valid, complete and correct. The docs page loads only local files."""

import base64
import re
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.lifecycle import Lifecycle
from service.parameters import ExplainOptions, PredictOptions
from service.repository.repository import Repository
from service.server.application import make_endpoints
from service.settings import read_settings
from tests.contract.tree import PICTURE
from tests.server import Server

CALLS = ("/predict", "/predict/batch", "/gradcam", "/gradcam/batch")


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    """The content of `/openapi.json`."""
    described: dict[str, Any] = server.client.get("/openapi.json").json()
    return described


def check(document: dict[str, Any], schema: dict[str, Any], answer: object) -> None:
    """Fail if an answer does not match the schema."""
    whole = schema | {"components": document["components"]}
    jsonschema.Draft202012Validator(whole).validate(answer)


def test_the_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(document).validate()


def test_the_document_describes_every_route_and_no_other(document: dict[str, Any]) -> None:
    settings = read_settings()
    admission = Admission(settings)
    classifier = Classifier(settings, admission)
    repository = Repository(settings)
    endpoints = make_endpoints(settings, Lifecycle(0), repository, admission, classifier)
    there = {(endpoint.path_format, endpoint.method.lower()) for endpoint in endpoints}
    described = {
        (path, method) for path, operations in document["paths"].items() for method in operations
    }
    assert there == described


@pytest.mark.parametrize("call", CALLS)
def test_the_examples_work_and_the_answers_match_the_schema(
    server: Server, document: dict[str, Any], call: str
) -> None:
    operation = document["paths"][call]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    headers = {"accept": "application/json"}
    response = server.client.post(call, json=example, headers=headers)
    assert response.status_code == 200, response.text
    content = operation["responses"]["200"]["content"]["application/json"]
    check(document, content["schema"], response.json())


@pytest.mark.parametrize("call", CALLS)
def test_the_parameters_are_those_that_the_service_validates(
    document: dict[str, Any], call: str
) -> None:
    options = ExplainOptions if "gradcam" in call else PredictOptions
    operation = document["paths"][call]["post"]
    names = set(options.model_fields)
    parameters = {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]}
    assert parameters == {("query", name) for name in names} | {("header", "Content-Encoding")}
    for kind in ("application/json", "multipart/form-data"):
        properties = set(operation["requestBody"]["content"][kind]["schema"]["properties"])
        assert properties - {"image", "images"} == names


@pytest.mark.parametrize("path", ["/models", "/models/quadrants", "/livez", "/readyz"])
def test_other_answers_match_the_schema(
    server: Server, document: dict[str, Any], path: str
) -> None:
    template = "/models/{name}" if path.count("/") == 2 else path
    content = document["paths"][template]["get"]["responses"]["200"]["content"]
    check(document, content["application/json"]["schema"], server.client.get(path).json())


def test_errors_and_full_explanations_match_the_schema(
    server: Server, document: dict[str, Any]
) -> None:
    operation = document["paths"]["/gradcam"]["post"]
    full = {"image": base64.b64encode(PICTURE).decode(), "against_index": 1, "view": "signed"}
    headers = {"accept": "application/json"}
    answer = server.client.post("/gradcam", json=full, headers=headers)
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    check(document, schema, answer.json())
    rejection = server.client.post("/gradcam", content=b"no picture")
    schema = operation["responses"]["415"]["content"]["application/json"]["schema"]
    check(document, schema, rejection.json())


def test_the_docs_page_loads_nothing_from_other_hosts(server: Server) -> None:
    page = server.client.get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    parts = re.findall(r'<(?:link|script)[^>]+(?:src|href)="([^"]+)"', page.text)
    assert parts
    for part in parts:
        assert part.startswith("/page/")
        assert server.client.get(part).status_code == 200
    loads = r"""(?:\bfetch\(|\bimport\(|@import|url\(|\bsrc\s*=|importScripts\()\s*["'(]?"""
    for part in parts:
        text = server.client.get(part).text
        assert not re.search(loads + r"(?:https?:)?//", text), part
