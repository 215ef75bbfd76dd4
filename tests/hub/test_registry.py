"""A file of an artefact in an OCI registry is the one that its manifest promises."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub.errors import HubError
from hub.fetch import fetch
from hub.registry import refuse_plain_http
from hub.source import parse_source
from tests.hub.places import serving
from tests.hub.registries import (
    DEBIAN,
    LOGIN,
    RegistryServer,
    push_artefact,
    run_debian,
    run_stub,
)

CONTENT = b"a model"
FILES = {"README.md": b"# Birds", "model.onnx": CONTENT, "model.sig": b"signed"}


@pytest.fixture(scope="module", params=["stub", "Debian's"])
def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The host and port of a registry."""
    if request.param == "stub":
        with run_stub() as host:
            yield host
    elif shutil.which(DEBIAN):
        with run_debian(tmp_path_factory.mktemp("registry")) as host:
            yield host
    else:
        pytest.skip(f"needs Debian's package {DEBIAN}")


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    """A registry whose files can be changed."""
    server = RegistryServer()
    with serving(server):
        yield server


def read(address: str, path: Path) -> str:
    return fetch(parse_source(address), path, lambda _: None)


def test_the_model_of_a_tag_or_digest_is_fetched(registry: str, tmp_path: Path) -> None:
    digest = push_artefact(registry, "someone/birds:v2", FILES)
    for reference in (":v2", f"@{digest}", f":v2@{digest}"):
        address = f"oci://{registry}/someone/birds{reference}"
        found = read(address, tmp_path / "file")
        assert found == hashlib.sha256(CONTENT).hexdigest()
        assert (tmp_path / "file").read_bytes() == CONTENT
        beside = parse_source(address).find_beside("model.sig")
        fetch(beside, tmp_path / "file", lambda _: None)
        assert (tmp_path / "file").read_bytes() == b"signed"
    assert parse_source(f"oci://{registry}/someone/birds:v2").guess_name() == "birds"


def test_the_only_file_of_onnx_is_the_model_whatever_its_name(
    registry: str, tmp_path: Path
) -> None:
    push_artefact(registry, "birds:latest", {"notes.txt": b"", "birds.onnx": CONTENT})
    read(f"oci://{registry}/birds", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_an_artefact_without_one_model_is_refused(registry: str, tmp_path: Path) -> None:
    push_artefact(registry, "many:1", {"a.onnx": CONTENT, "b.onnx": b"b"})
    with pytest.raises(HubError, match=r"must have one file model\.onnx.*a\.onnx, b\.onnx"):
        read(f"oci://{registry}/many:1", tmp_path / "file")
    push_artefact(registry, "none:1", {"layer.tar": b"tar"})
    with pytest.raises(HubError, match=r"one file model\.onnx. Its files: layer\.tar"):
        read(f"oci://{registry}/none:1", tmp_path / "file")


def test_names_of_a_manifest_neither_control_nor_fill_the_terminal(
    registry: str, tmp_path: Path
) -> None:
    files = {"\x1b]0;owned\x07a.onnx": b"a", f"{'b' * 100_000}.onnx": b"b"}
    push_artefact(registry, "loud:1", files)
    with pytest.raises(HubError) as caught:
        read(f"oci://{registry}/loud:1", tmp_path / "file")
    assert "?]0;owned?a.onnx" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000


def test_what_is_not_there_is_named(registry: str, tmp_path: Path) -> None:
    with pytest.raises(HubError, match=f"There is no manifests v3 at oci://{registry}/nobody"):
        read(f"oci://{registry}/nobody:v3", tmp_path / "file")


def test_a_file_that_the_registry_replaced_is_refused(
    server: RegistryServer, tmp_path: Path
) -> None:
    digest = push_artefact(server.host, "birds:1", FILES)
    blob = f"/v2/birds/blobs/sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    server.files[blob] = b"another"
    with pytest.raises(HubError, match=r"has the SHA-256 .*, expected"):
        read(f"oci://{server.host}/birds:1", tmp_path / "file")
    server.files[f"/v2/birds/manifests/{digest}"] = json.dumps({"layers": []}).encode()
    with pytest.raises(HubError, match=f"gave the manifest sha256:.* for {digest}"):
        read(f"oci://{server.host}/birds@{digest}", tmp_path / "file")


def test_a_login_that_docker_stored_gets_a_token(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_artefact(server.host, "birds:1", FILES)
    server.token = "given"
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with pytest.raises(HubError, match="gave no token: 401"):
        read(f"oci://{server.host}/birds:1", tmp_path / "file")
    config = {"auths": {server.host: {"auth": LOGIN}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    read(f"oci://{server.host}/birds:1", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_an_answer_that_is_compressed_is_refused(server: RegistryServer, tmp_path: Path) -> None:
    push_artefact(server.host, "birds:1", FILES)
    server.encoding = "gzip"
    with pytest.raises(HubError, match="in the encoding gzip, which was not asked for"):
        read(f"oci://{server.host}/birds:1", tmp_path / "file")


def test_an_endless_token_is_not_read_to_its_end(
    server: RegistryServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_artefact(server.host, "birds:1", FILES)
    server.token = "x" * 1_000_000
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    config = {"auths": {server.host: {"auth": LOGIN}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(HubError, match=r"The token of .* has more than 65536 bytes"):
        read(f"oci://{server.host}/birds:1", tmp_path / "file")


def test_a_list_of_images_is_named(server: RegistryServer, tmp_path: Path) -> None:
    server.files["/v2/birds/manifests/1"] = json.dumps({"manifests": []}).encode()
    with pytest.raises(HubError, match="is no artefact with files"):
        read(f"oci://{server.host}/birds:1", tmp_path / "file")


@pytest.mark.parametrize(
    "address",
    [
        "oci://host",
        "oci://host/Birds",
        "oci://host/birds@sha256:12",
        "oci://host/birds:1#model.sig",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(HubError, match="An artefact is written oci://host/repository:tag"):
        parse_source(address)


def test_a_registry_may_not_lead_to_plain_http() -> None:
    refuse_plain_http(httpx.Request("GET", "https://ghcr.io/v2/"))
    with pytest.raises(
        HubError, match=r"http://elsewhere\.example/token, where anybody on the way"
    ):
        refuse_plain_http(httpx.Request("GET", "http://elsewhere.example/token"))
