"""What SECURITY.md promises and no other test shows."""

import base64
import re
import socket

import pytest

from tests.contract.tree import PICTURE
from tests.server import ROOT, Server, wait_until

TEXT = (ROOT / "SECURITY.md").read_text()


def test_every_promise_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", TEXT)
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("path", ["/", "/docs", "/page/page.js", "/models", "/nowhere", "/livez"])
def test_no_browser_guesses_what_an_answer_is(server: Server, path: str) -> None:
    assert server.client.get(path).headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_load_nothing_from_elsewhere_and_stand_in_no_frame(server: Server, path: str) -> None:
    headers = server.client.get(path).headers
    policy = dict(
        part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert headers["referrer-policy"] == "no-referrer"


def test_pictures_too_are_what_they_say(server: Server) -> None:
    headers = server.client.post("/gradcam", content=PICTURE).headers
    assert headers["content-type"] == "image/png"
    assert headers["x-content-type-options"] == "nosniff"


def test_a_url_is_no_picture_and_nobody_is_asked_for_it(server: Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/picture.png"
        encoded = base64.b64encode(url.encode()).decode()
        refused = [
            server.client.post("/predict", json={"image": url}),
            server.client.post("/predict", json={"image": encoded}),
            server.client.post("/predict", data={"image": url}),
            server.client.post("/predict", content=url.encode()),
            server.client.post("/predict", params={"image": url}),
        ]
        with pytest.raises(TimeoutError):
            listener.accept()
    assert {answer.status_code for answer in refused} <= {400, 415}


def test_the_log_holds_nothing_of_a_picture_nor_of_what_was_asked(server: Server) -> None:
    marks = [f"secret-{place}" for place in ("bytes", "name", "label", "query", "agent")]
    bytes_mark, name_mark, label_mark, query_mark, agent_mark = marks
    server.client.post("/predict", content=bytes_mark.encode())
    server.client.post("/predict", content=PICTURE + bytes_mark.encode())
    server.client.post("/gradcam", files={"image": (name_mark, PICTURE)})
    server.client.post("/gradcam", content=PICTURE, params={"target": label_mark})
    server.client.get("/models", params={query_mark: "1"}, headers={"user-agent": agent_mark})
    server.client.get("/models", headers={"x-request-id": "the-last"})
    wait_until(lambda: "the-last" in server.read_log())
    assert [mark for mark in marks if mark in server.read_log()] == []
