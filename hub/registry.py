"""Reads a file of an artefact in an OCI registry, such as one that `oras push` made.

A layer of the artefact is a file, and its annotation has the name. Knows nothing of models but
which layer to take.
"""

import base64
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from hub.errors import HubError
from hub.source import ARTEFACT, CONNECT_SECONDS, SILENT_SECONDS
from service.artifact.layout import FILE_NAME, SUFFIX

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
MAX_MANIFEST_BYTES = 4 << 20
MAX_TOKEN_BYTES = 64 << 10
MAX_NAMED = 20  # files in a sentence
CHUNK_BYTES = 64 << 10
TITLE = "org.opencontainers.image.title"
SHA256 = "sha256:"
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
LOCAL = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?")  # without encryption
UNAUTHORIZED, NOT_FOUND = 401, 404


@dataclass(frozen=True)
class Layer:
    """One file of an artefact."""

    name: str
    digest: str  # sha256:…


@contextmanager
def open_file(url: str) -> Iterator[tuple[Iterator[bytes], str]]:
    """Give the content of a file, in pieces, and the SHA-256 that it must have.

    After `#` stands the name of the file. Without it, the file is the model.

    Raises:
        HubError: there is none, or the registry does not give it.
    """
    found = ARTEFACT.fullmatch(url)
    assert found
    timeout = httpx.Timeout(SILENT_SECONDS, connect=CONNECT_SECONDS)
    headers = {"Accept-Encoding": "identity"}
    hooks = {"request": [] if LOCAL.fullmatch(found["host"]) else [refuse_plain_http]}
    with httpx.Client(
        timeout=timeout, headers=headers, follow_redirects=True, event_hooks=hooks
    ) as client:
        registry = Registry(client, found["host"], found["repository"])
        manifest = registry.read_manifest(found["digest"] or found["tag"] or "latest")
        layer = choose_layer(manifest, found["file"], url)
        with registry.ask(f"blobs/{layer.digest}", "*/*") as answer:
            yield answer.iter_raw(CHUNK_BYTES), layer.digest.removeprefix(SHA256)


def refuse_plain_http(request: httpx.Request) -> None:
    """Check that a request goes over https://, also one that an answer leads to.

    Raises:
        HubError: it does not.
    """
    if request.url.scheme != "https":
        raise HubError(
            f"The registry leads to {request.url}, where anybody on the way can replace the file. "
            "Use a registry that stays at https://."
        )


class Registry:
    """One repository of a registry. It gets a token if the registry asks for one."""

    def __init__(self, client: httpx.Client, host: str, repository: str) -> None:
        scheme = "http" if LOCAL.fullmatch(host) else "https"
        self._url = f"{scheme}://{host}/v2/{repository}"
        self._name = f"{host}/{repository}"
        self._client = client
        self._login = find_login(host)
        self._authorization = ""

    def read_manifest(self, reference: str) -> dict[str, Any]:
        """What the artefact consists of.

        Raises:
            HubError: it is not there, or is another one than its digest says.
        """
        with self.ask(f"manifests/{reference}", ", ".join(MANIFESTS)) as answer:
            content = self._read(answer, MAX_MANIFEST_BYTES, "manifest")
        digest = SHA256 + hashlib.sha256(content).hexdigest()
        if reference.startswith(SHA256) and reference != digest:
            raise HubError(f"{self._name} gave the manifest {digest} for {reference}.")
        manifest: dict[str, Any] = json.loads(content)
        return manifest

    @contextmanager
    def ask(self, path: str, accept: str) -> Iterator[httpx.Response]:
        """Ask the registry, a second time with a token if it wants one.

        Raises:
            HubError: it refuses.
        """
        for is_last in (False, True):
            headers = {"Accept": accept}
            if self._authorization:
                headers["Authorization"] = self._authorization
            with self._client.stream("GET", f"{self._url}/{path}", headers=headers) as answer:
                if answer.status_code == UNAUTHORIZED and not is_last:
                    self._authorization = self._authorize(
                        answer.headers.get("www-authenticate", "")
                    )
                    continue
                if answer.status_code == NOT_FOUND:
                    raise HubError(f"There is no {path.replace('/', ' ')} at oci://{self._name}.")
                if answer.is_error:
                    raise HubError(f"oci://{self._name} answered {answer.status_code}.")
                refuse_encoding(answer)
                yield answer
                return

    def _authorize(self, challenge: str) -> str:
        kind, _, rest = challenge.partition(" ")
        basic = f"Basic {self._login}" if self._login else ""
        if kind.lower() == "basic":
            if not basic:
                raise HubError(f"oci://{self._name} needs a login: run docker login.")
            return basic
        wanted = dict(CHALLENGE.findall(rest))
        if "realm" not in wanted:
            raise HubError(f"oci://{self._name} does not say where to log in.")
        login = {"Authorization": basic} if basic else {}
        with self._client.stream(
            "GET", wanted.pop("realm"), params=wanted, headers=login
        ) as answer:
            if answer.is_error:
                raise HubError(f"oci://{self._name} gave no token: {answer.status_code}.")
            refuse_encoding(answer)
            given = json.loads(self._read(answer, MAX_TOKEN_BYTES, "token"))
        return f"Bearer {given.get('token') or given['access_token']}"

    def _read(self, answer: httpx.Response, limit: int, what: str) -> bytes:
        """Read an answer as it was sent: what unpacks it could need any amount of memory."""
        content = b""
        for piece in answer.iter_raw(CHUNK_BYTES):
            content += piece
            if len(content) > limit:
                raise HubError(f"The {what} of {self._name} has more than {limit} bytes.")
        return content


def refuse_encoding(answer: httpx.Response) -> None:
    """Check that an answer is not compressed. Nobody asked for it, and it could unpack to any size.

    Raises:
        HubError: it is.
    """
    encoding = answer.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise HubError(
            f"{answer.url} answered in the encoding {encoding}, which was not asked for."
        )


def choose_layer(manifest: dict[str, Any], name: str | None, url: str) -> Layer:
    """Find the layer of a file; without a name that of the model.

    Raises:
        HubError: there is none, or it is not known which.
    """
    if "layers" not in manifest:
        raise HubError(f"{url} is no artefact with files. Name one with @sha256:…")
    layers = [
        Layer((layer.get("annotations") or {}).get(TITLE, ""), layer["digest"])
        for layer in manifest["layers"]
        if layer["digest"].startswith(SHA256)
    ]
    if name:
        found = [layer for layer in layers if layer.name == name]
    else:
        models = [layer for layer in layers if layer.name.endswith(SUFFIX)]
        found = [layer for layer in models if layer.name == FILE_NAME] or models
    if len(found) == 1:
        return found[0]
    wanted = name or f"one file {FILE_NAME}"
    names = ", ".join(layer.name for layer in layers[:MAX_NAMED] if layer.name)
    names = names or "none with a name"
    raise HubError(f"{url} must have {wanted}. Its files: {names}.")


def find_login(host: str) -> str:
    """Name and password in base64, as `docker login` stored them; empty if it did not."""
    folder = os.environ.get("DOCKER_CONFIG") or str(Path.home() / ".docker")
    try:
        stored = json.loads(Path(folder, "config.json").read_bytes())["auths"][host]["auth"]
        base64.b64decode(stored, validate=True)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(stored)
