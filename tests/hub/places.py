"""Servers on this machine that stand for those from which models are pulled."""

import base64
import contextlib
import hashlib
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.hub import signing

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FileServer(ThreadingHTTPServer):
    """Serves `files` by path. A path in `cut` ends in the middle, one in `moved` is elsewhere.

    Who asks for something secret is told that it is forbidden.
    """

    daemon_threads = True

    def __init__(
        self,
        files: dict[str, bytes],
        cut: tuple[str, ...] = (),
        moved: dict[str, str] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), FileHandler)
        self.files, self.cut, self.moved = files, cut, moved or {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def use_tls(self, folder: Path) -> Path:
        """Serve over https://; return the certificate that a client must trust."""
        certificate, key = signing.write_certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://localhost:{self.server_port}"
        return certificate


class FileHandler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    server: FileServer

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if self.path in self.server.moved:
            self.send_response(302)
            self.send_header("Location", self.server.moved[self.path])
        else:
            missing = 403 if "secret" in self.path else 404
            self.send_response(missing if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if with_body and content:
            cut = self.path in self.server.cut
            self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class HubServer(ThreadingHTTPServer):
    """Stands for Hugging Face: repositories by name and revision, and what was committed."""

    daemon_threads = True

    def __init__(self, revisions: dict[str, dict[str, bytes]]) -> None:
        super().__init__(("127.0.0.1", 0), HubHandler)
        self.revisions = revisions  # "owner/repository@revision" -> files
        self.created: list[dict[str, Any]] = []
        self.committed: dict[str, bytes] = {}
        self.branch = ""
        self.url = f"http://127.0.0.1:{self.server_port}"


class HubHandler(BaseHTTPRequestHandler):
    """Answers the calls that huggingface_hub makes for a small file."""

    server: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/"):
            name, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            self.describe(name, revision or "main")
        else:
            name, _, rest = path.strip("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            self.send(self.find(name, revision).get(file))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.send_json({"url": f"{self.server.url}/someone/birds"})
        elif "/branch/" in path or path == "/api/validate-yaml":
            self.send_json({})
        elif "/preupload/" in path:
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular"} for f in files]
            self.send_json({"files": [mode | {"shouldIgnore": False} for mode in modes]})
        elif "/commit/" in path:
            self.commit(path, body)
        else:  # paths-info
            name, _, revision = path.removeprefix("/api/models/").partition("/paths-info/")
            files = self.find(name, revision)
            self.send_json([self.describe_file(path, files[path]) for path in files])

    def commit(self, path: str, body: bytes) -> None:
        self.server.branch = path.rpartition("/")[2]
        for line in body.splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                content = base64.b64decode(entry["value"]["content"])
                self.server.committed[entry["value"]["path"]] = content
        url = f"{self.server.url}/someone/birds/commit/{COMMIT}"
        self.send_json({"commitUrl": url, "commitOid": COMMIT})

    def describe(self, name: str, revision: str) -> None:
        files = self.find(name, revision)
        if not files:
            self.send(None)
            return
        siblings = [{"rfilename": file} for file in files]
        self.send_json({"id": name, "sha": COMMIT, "private": False, "siblings": siblings})

    def describe_file(self, path: str, content: bytes) -> dict[str, Any]:
        oid = hashlib.sha1(content).hexdigest()
        return {"type": "file", "path": path, "size": len(content), "oid": oid}

    def find(self, name: str, revision: str) -> dict[str, bytes]:
        return self.server.revisions.get(f"{name}@{revision}", {})

    def send_json(self, content: object) -> None:
        self.send(json.dumps(content).encode(), "application/json")

    def send(self, content: bytes | None, media_type: str = "application/octet-stream") -> None:
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
        if content is None:
            self.send_header("X-Error-Code", "RevisionNotFound")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    """Let a server answer."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
