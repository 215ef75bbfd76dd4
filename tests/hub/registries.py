"""OCI registries on this machine: one that asks for a token, and Debian's if it is installed."""

import base64
import contextlib
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

from tests.hub.places import serving
from tests.server import find_free_port, wait_until

DEBIAN = "docker-registry"
TITLE = "org.opencontainers.image.title"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
LOGIN = base64.b64encode(b"someone:secret").decode()


class RegistryServer(ThreadingHTTPServer):
    """Stands for a registry. It gives its files to those with a token, and tokens to a login."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), RegistryHandler)
        self.files: dict[str, bytes] = {}  # by path
        self.host = f"127.0.0.1:{self.server_port}"
        self.token: str | None = None  # without one, everybody may read
        self.encoding = ""  # that its answers claim


class RegistryHandler(BaseHTTPRequestHandler):
    """Takes and gives manifests and blobs."""

    server: RegistryServer

    def do_GET(self) -> None:
        given = self.headers.get("Authorization")
        if self.path.startswith("/token?"):
            is_known = given == f"Basic {LOGIN}"
            body = json.dumps({"token": self.server.token}).encode()
            self.answer(200 if is_known else 401, body)
        elif self.server.token and given != f"Bearer {self.server.token}":
            realm = f'Bearer realm="http://{self.server.host}/token",service="here",scope="pull"'
            self.answer(401, b"", {"WWW-Authenticate": realm})
        else:
            content = self.server.files.get(self.path)
            self.answer(404 if content is None else 200, content or b"")

    def do_POST(self) -> None:
        self.answer(202, b"", {"Location": f"http://{self.server.host}{self.path}new"})

    def do_PUT(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        path, _, _ = self.path.partition("?")
        self.server.files[re.sub(r"[^/]+$", digest, path).replace("/uploads", "")] = content
        self.server.files[path] = content
        self.answer(201, b"")

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if self.server.encoding:
            self.send_header("Content-Encoding", self.server.encoding)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def run_stub() -> Iterator[str]:
    """Start the registry of this module; give its host and port."""
    server = RegistryServer()
    with serving(server):
        yield server.host


@contextlib.contextmanager
def run_debian(folder: Path) -> Iterator[str]:
    """Start Debian's registry; give its host and port."""
    port = find_free_port()
    (folder / "registry.yml").write_text(CONFIG.format(folder=folder / "blobs", port=port))
    command = shutil.which(DEBIAN)
    assert command
    process = subprocess.Popen(
        [command, "serve", str(folder / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/v2/"))
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def answers(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url).is_success
    return False


def push_artefact(host: str, reference: str, files: dict[str, bytes]) -> str:
    """Put files by name into a registry, as `oras push` does; return the manifest's digest."""
    repository, _, tag = reference.partition(":")
    url = f"http://{host}/v2/{repository}"
    config = push_blob(url, b"{}")
    layers = [
        push_blob(url, content) | {"annotations": {TITLE: name}} for name, content in files.items()
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config | {"mediaType": "application/vnd.oci.empty.v1+json"},
        "layers": layers,
    }
    content = json.dumps(manifest).encode()
    headers = {"Content-Type": MANIFEST}
    httpx.put(f"{url}/manifests/{tag}", content=content, headers=headers).raise_for_status()
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push_blob(url: str, content: bytes) -> dict[str, object]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    place = httpx.post(f"{url}/blobs/uploads/").raise_for_status().headers["Location"]
    httpx.put(
        httpx.URL(place).copy_merge_params({"digest": digest}),
        content=content,
        headers={"Content-Type": "application/octet-stream"},
    ).raise_for_status()
    return {
        "mediaType": "application/octet-stream",
        "digest": digest,
        "size": len(content),
    }
