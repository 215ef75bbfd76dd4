"""Guarantees of SECURITY.md that no other test checks."""

import base64
import re
import socket
from pathlib import Path

import pytest

from tests.contract.tree import PICTURE
from tests.server import ROOT, Server

PAGES = [ROOT / "SECURITY.md", ROOT / "docs" / "explanation" / "security-limits.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_guarantee_names_an_existing_test(page: Path) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", page.read_text())
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("path", ["/", "/docs", "/page/page.js", "/models", "/nowhere", "/livez"])
def test_every_answer_disables_content_sniffing(server: Server, path: str) -> None:
    assert server.client.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_other_hosts_and_cannot_be_framed(
    server: Server, path: str
) -> None:
    headers = server.client.get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert headers["referrer-policy"] == "no-referrer"


def test_pictures_also_disable_content_sniffing(server: Server) -> None:
    headers = server.client.post("/gradcam", content=PICTURE).headers
    assert headers["content-type"] == "image/png"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_url_is_not_accepted_as_a_picture_and_never_fetched(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/picture.png"
        encoded = base64.b64encode(url.encode()).decode()
        rejected = [
            server.client.post("/predict", json={"image": url}),
            server.client.post("/predict", json={"image": encoded}),
            server.client.post("/predict", data={"image": url}),
            server.client.post("/predict", content=url.encode()),
            server.client.post("/predict", params={"image": url}),
        ]
        with pytest.raises(TimeoutError):
            listener.accept()
    assert {answer.status_code for answer in rejected} <= {400, 415}


def test_the_log_has_no_picture_content_and_no_parameters(server: Server) -> None:
    marks = [f"secret-{place}" for place in ("bytes", "name", "label", "query", "agent")]
    bytes_mark, name_mark, label_mark, query_mark, agent_mark = marks
    server.client.post("/predict", content=bytes_mark.encode())
    server.client.post("/predict", content=PICTURE + bytes_mark.encode())
    server.client.post("/gradcam", files={"image": (name_mark, PICTURE)})
    server.client.post("/gradcam", content=PICTURE, params={"target": label_mark})
    server.client.get("/models", params={query_mark: "1"}, headers={"user-agent": agent_mark})
    server.client.get("/models", headers={"x-request-id": "the-last"})
    log = server.wait_logged("the-last")
    assert [mark for mark in marks if mark in log] == []
