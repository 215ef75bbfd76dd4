"""API keys, public paths, and CORS for pages of other origins."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.tree import PICTURE
from tests.server import Server
from tests.warm_process import start_worker

KEYS = ("first-key", "second key")
CALLS = [("POST", "/predict"), ("GET", "/models"), ("GET", "/metrics"), ("GET", "/nowhere")]
EXPOSE = "access-control-expose-headers"
ALWAYS_READABLE = {"cache-control", "content-length", "content-type"}
NOT_FOR_PAGES = {"connection", "date", "vary", "x-content-type-options"}


@pytest.fixture(scope="module")
def guarded(quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two keys and two allowed origins."""
    settings = {
        "api_keys": ", ".join(KEYS),
        "cors_origins": "https://a.example, https://b.example",
    }
    with start_worker(quadrants_dir, tmp_path_factory.mktemp("guarded"), **settings) as running:
        running.wait_ready()
        yield running


@pytest.fixture(scope="module")
def open_to_all(quadrants_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the pages of all origins."""
    folder = tmp_path_factory.mktemp("open")
    with start_worker(quadrants_dir, folder, cors_origins="*") as running:
        running.wait_ready()
        yield running


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "sent",
    [None, "", "Bearer", "Bearer wrong", "Bearer first-key2", "first-key", "Basic first-key"],
)
def test_without_a_valid_key_the_answer_only_says_how_to_send_one(
    guarded: Server, method: str, path: str, sent: str | None
) -> None:
    headers = {} if sent is None else {"authorization": sent}
    response = guarded.client.request(method, path, headers=headers)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert response.json()["error"]["code"] == "unauthorized"
    assert "Authorization: Bearer" in response.json()["error"]["message"]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_each_of_the_keys_is_accepted(guarded: Server, key: str, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {key}"}
    assert guarded.client.post("/predict", content=PICTURE, headers=headers).status_code == 200
    assert guarded.client.get("/models", headers=headers).status_code == 200
    assert guarded.client.get("/nowhere", headers=headers).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/livez", "/readyz", "/v2/health/ready", "/", "/page/look/base.css", "/docs", "/openapi.json"],
)
def test_probes_and_what_holds_no_data_need_no_key(guarded: Server, path: str) -> None:
    assert guarded.client.get(path).status_code == 200


def test_keys_never_appear_in_the_log(guarded: Server) -> None:
    guarded.client.get("/models", headers={"authorization": "Bearer first-key"})
    assert "first-key" not in guarded.wait_logged('"/models"')


def test_public_paths_are_a_setting(quadrants_dir: Path, tmp_path: Path) -> None:
    settings = {"api_keys": "key", "public_paths": "/readyz,/models*,/page/*"}
    with start_worker(quadrants_dir, tmp_path, **settings) as server:
        server.wait_ready()
        assert server.client.get("/models").status_code == 200
        assert server.client.get("/models/quadrants").status_code == 200
        assert server.client.get("/livez").status_code == 401


def test_without_keys_all_paths_are_open_and_other_origins_cannot_read(server: Server) -> None:
    response = server.client.get("/models", headers={"origin": "https://a.example"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("origin", ["https://a.example", "https://b.example"])
def test_pages_of_allowed_origins_can_send_requests_and_read_answers(
    guarded: Server, origin: str
) -> None:
    preflight = guarded.client.options(
        "/gradcam",
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == origin
    assert preflight.headers["access-control-allow-methods"] == "GET, POST"
    assert preflight.headers["access-control-allow-headers"] == "authorization,content-type"
    headers = {"origin": origin, "authorization": "Bearer first-key"}
    answer = guarded.client.post("/gradcam", content=PICTURE, headers=headers)
    assert answer.headers["access-control-allow-origin"] == origin
    assert {"X-Target-Label", "X-Warnings"} <= set(answer.headers[EXPOSE].split(", "))
    assert answer.headers["vary"] == "Accept, Origin"
    rejection = guarded.client.post("/predict", headers={"origin": origin})
    assert rejection.status_code == 401
    assert rejection.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    ("method", "status", "repeated"),
    [
        ("OPTIONS", 400, {"Access-Control-Request-Headers": "x" * 2000}),
        ("GET", 200, {"Origin": "https://" + "x" * 2000, "Cookie": "a=b"}),
    ],
)
def test_no_answer_repeats_a_long_header(
    open_to_all: Server, method: str, status: int, repeated: dict[str, str]
) -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"} | repeated
    answer = open_to_all.client.request(method, "/livez", headers=headers)
    assert answer.status_code == status
    assert max(len(value) for value in answer.headers.values()) < 1000


def test_a_preflight_does_not_tell_which_paths_exist(guarded: Server) -> None:
    headers = {"origin": "https://a.example", "access-control-request-method": "POST"}
    answers = [guarded.client.options(path, headers=headers) for path in ("/predict", "/nowhere")]
    known, unknown = [
        (answer.status_code, {**answer.headers, "x-request-id": "", "date": ""})
        for answer in answers
    ]
    assert known == unknown


@pytest.mark.parametrize("options", [{}, {"view": "heatmap", "verify": "true"}])
def test_pages_of_allowed_origins_can_read_every_header(
    guarded: Server, options: dict[str, str]
) -> None:
    headers = {"origin": "https://a.example", "authorization": "Bearer first-key"}
    for call in ("/predict", "/gradcam"):
        own = options if call == "/gradcam" else {}
        answer = guarded.client.post(call, content=PICTURE, params=own, headers=headers)
        assert answer.status_code == 200
        exposed = {name.strip().lower() for name in answer.headers[EXPOSE].split(",")}
        others = {name for name in answer.headers if not name.startswith("access-control-")}
        assert others - exposed <= ALWAYS_READABLE | NOT_FOR_PAGES


def test_pages_of_other_origins_cannot(guarded: Server) -> None:
    headers = {"origin": "https://c.example", "access-control-request-method": "POST"}
    preflight = guarded.client.options("/gradcam", headers=headers)
    assert preflight.status_code == 401
    assert "access-control-allow-origin" not in preflight.headers
    headers = {"origin": "https://c.example", "authorization": "Bearer first-key"}
    answer = guarded.client.get("/models", headers=headers)
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["vary"] == "Origin"
