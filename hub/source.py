"""Where a model file is: what the address says, before anything is asked. Knows no network."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hub.errors import HubError
from service.artifact.layout import FILE_NAME, NAME, SUFFIX

REPOSITORY = re.compile(
    r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/@]+))?(?:/(?P<path>[^@]+))?"
)
ARTEFACT = re.compile(  # after # the file, which only we add
    r"oci://(?P<host>[\w.-]+(?::\d+)?|\[[0-9a-f:]+\](?::\d+)?)/(?P<repository>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>\w[\w.-]*))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?(?:#(?P<file>[^#]+))?"
)
CONNECT_SECONDS, SILENT_SECONDS = 30, 60  # until the server of a source counts as gone
REMOTE = ("hf", "s3", "gs", "oci", "https", "http")
ACCEPTED = (
    "hf://owner/repository@revision, s3://…, gs://…, oci://host/repository:tag, https://… or a file"
)


@dataclass(frozen=True)
class Source:
    """One model file somewhere. `url` is what fsspec opens; `parts` are its folders and name."""

    text: str  # as the person wrote it
    protocol: str
    url: str
    parts: tuple[str, ...]

    def guess_name(self) -> str | None:
        """Return the name of the model that the address suggests, if it suggests one.

        `birds/3/model.onnx` and `birds.onnx` suggest "birds", a repository its own name.
        """
        *folders, file = self.parts
        while folders and folders[-1].isdigit():
            folders.pop()
        stem = file.removesuffix(SUFFIX)
        found = stem if file != FILE_NAME else folders[-1] if folders else ""
        name = found.lower().replace(" ", "-")
        return name if NAME.fullmatch(name) else None

    def find_beside(self, name: str) -> "Source":
        """The address of another file in the same folder, or of the same artefact."""
        parts = (*self.parts[:-1], name)
        if self.protocol == "oci":
            return Source(f"{name} of {self.text}", "oci", f"{self.url}#{name}", parts)
        path, separator, query = self.url.partition("?")
        url = f"{path.rpartition('/')[0]}/{name}{separator}{query}" if "/" in path else name
        return Source(url, self.protocol, url, parts)


def parse_source(text: str) -> Source:
    """Read an address.

    Raises:
        HubError: it is none that can be read; the message says which can.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return _make_local(text, Path(text))
    if scheme == "file":
        return _make_local(text, Path(unquote(urlsplit(text).path)))
    if scheme not in REMOTE or not rest:
        raise HubError(f'A model can be pulled from {ACCEPTED}, got "{text}".')
    if scheme == "hf":
        return _make_repository(text)
    if scheme == "oci":
        return _make_artefact(text)
    parts = urlsplit(text)
    path = unquote(parts.path).strip("/") if scheme.startswith("http") else rest.strip("/")
    if not path.endswith(SUFFIX) and not scheme.startswith("http"):
        path, text_url = f"{path}/{FILE_NAME}", f"{text.rstrip('/')}/{FILE_NAME}"
    else:
        text_url = text
    return Source(text, scheme, text_url, tuple(path.split("/")))


def _make_local(text: str, path: Path) -> Source:
    file = path / FILE_NAME if path.is_dir() else path
    return Source(text, "file", str(file), file.absolute().parts)


def _make_repository(text: str) -> Source:
    found = REPOSITORY.fullmatch(text)
    if not found:
        raise HubError(
            "A repository of Hugging Face is written hf://owner/repository, "
            f'hf://owner/repository@revision or with a file after it, got "{text}".'
        )
    path = found["path"] or FILE_NAME
    path = path if path.endswith(SUFFIX) else f"{path.rstrip('/')}/{FILE_NAME}"
    revision = f"@{found['revision']}" if found["revision"] else ""
    url = f"hf://{found['repo']}{revision}/{path}"
    return Source(text, "hf", url, (*found["repo"].split("/"), *path.split("/")))


def _make_artefact(text: str) -> Source:
    found = ARTEFACT.fullmatch(text)
    if not found or found["file"]:
        raise HubError(
            "An artefact is written oci://host/repository:tag or oci://host/repository@sha256:…, "
            f'got "{text}".'
        )
    return Source(text, "oci", text, (*found["repository"].split("/"), FILE_NAME))
