"""A model from elsewhere is put in place whole or not at all, and judged before."""

import hashlib
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.errors import HubError
from hub.pull import Pulled, PullRequest, pull
from hub.source import parse_source
from service.settings import Settings
from tests.hub import signing
from tests.hub.places import FileServer, HubServer, serving
from tests.hub.registries import push_artefact, run_stub
from tests.server import PATIENCE, ROOT
from tests.service.quadrants_model import write_model

SPOILED = b"no model"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("model") / "model.onnx"
    write_model(file)
    return file.read_bytes()


@pytest.fixture(scope="module")
def place(content: bytes) -> Iterator[FileServer]:
    files = {
        "/birds.onnx": content,
        "/cut.onnx": content,
        "/spoiled.onnx": SPOILED,
        "/birds/7/model.onnx": content,
    }
    server = FileServer(files, cut=("/cut.onnx",))
    with serving(server):
        yield server


def get_digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(url: str, models: Path, digest: str, **options: object) -> Pulled:
    request = PullRequest(parse_source(url), models, sha256=digest, **options)  # type: ignore[arg-type]
    return pull(request, Settings(device="cpu"))  # type: ignore[call-arg]


def list_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_of_a_web_server_becomes_the_next_version(
    place: FileServer, content: bytes, tmp_path: Path
) -> None:
    first = fetch(f"{place.url}/birds.onnx", tmp_path, get_digest(content).upper())
    assert first.path == tmp_path / "birds" / "1" / "model.onnx"
    assert first.path.read_bytes() == content
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o644
    again = fetch(f"{place.url}/birds/7/model.onnx", tmp_path, get_digest(content))
    assert (again.path, again.is_new) == (first.path, False)
    (tmp_path / "birds" / "4").mkdir()  # for example of a version that is being removed
    first.path.unlink()
    fifth = fetch(f"{place.url}/birds.onnx", tmp_path, get_digest(content))
    assert (fifth.key, fifth.is_new) == (("birds", 5), True)
    with pytest.raises(HubError, match=r"birds/4 is there already"):
        fetch(f"{place.url}/birds.onnx", tmp_path, get_digest(content), version=4)


@pytest.mark.parametrize(
    ("path", "digest_of", "sentence"),
    [
        ("/cut.onnx", None, "can't be read"),
        ("/nothing.onnx", SPOILED, "There is no file at"),
        ("/secret.onnx", SPOILED, r"secret\.onnx can't be read: 403"),
        (":1/refused.onnx", SPOILED, r"refused\.onnx can't be read: Cannot connect to host"),
        ("/spoiled.onnx", SPOILED, r"spoiled\.onnx can't be read as an ONNX file.*Nothing was put"),
        ("/spoiled.onnx", None, "has the SHA-256 .*, expected"),
    ],
)
def test_a_faulty_file_leaves_nothing_behind(
    place: FileServer,
    content: bytes,
    tmp_path: Path,
    path: str,
    digest_of: bytes | None,
    sentence: str,
) -> None:
    url = "http://127.0.0.1" if path.startswith(":") else place.url
    with pytest.raises(HubError, match=sentence):
        fetch(url + path, tmp_path / "new" / "models", get_digest(digest_of or content))
    assert list_files(tmp_path) == []
    (tmp_path / "models").mkdir()
    with pytest.raises(HubError, match=sentence):
        fetch(url + path, tmp_path / "models", get_digest(digest_of or content))
    assert list_files(tmp_path) == ["models"]


def test_without_encryption_a_digest_is_needed(place: FileServer, tmp_path: Path) -> None:
    before = list(place.asked)
    request = PullRequest(parse_source(f"{place.url}/birds.onnx"), tmp_path)
    with pytest.raises(HubError, match="--sha256"):
        pull(request, Settings())  # type: ignore[call-arg]
    assert place.asked == before


def test_a_signed_file_is_pulled_and_needs_no_digest(
    place: FileServer, content: bytes, tmp_path: Path
) -> None:
    key, models = signing.make_key(), tmp_path / "models"
    public = str(signing.write_public_key(key, tmp_path / "key.pem"))
    url, options = f"{place.url}/birds.onnx", ("--to", str(models), "--public-key", public)
    place.files["/model.sig"] = signing.sign(key, {".": content})
    place.files["/wrong.sig"] = signing.sign(key, {".": SPOILED})
    place.files["/long.sig"] = bytes(2 << 20)
    for name, sentence in (
        ("wrong", "The signature is of a file with the SHA-256"),
        ("nothing", "There is no file at"),
        ("long", "so it is no signature"),
    ):
        signature = f"{place.url}/{name}.sig"
        ran = run(tmp_path, "pull", url, *options, "--signature", signature)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert sentence in ran.stderr
        assert len(ran.stderr.splitlines()) == 1
        assert list_files(models) == []
    ran = run(tmp_path, "pull", url, *options)
    assert ran.returncode == 0, ran.stderr
    assert list_files(models) == ["birds", "birds/1", "birds/1/model.onnx"]
    other = str(signing.write_public_key(signing.make_key(), tmp_path / "other.pem"))
    ran = run(tmp_path, "pull", url, "--to", str(models), "--public-key", other)
    assert ran.returncode == 2
    assert "not made with this key" in ran.stderr


def test_a_signature_without_a_key_is_refused(tmp_path: Path) -> None:
    ran = run(tmp_path, "pull", "model.onnx", "--signature", "model.sig", "--name", "birds")
    assert (ran.returncode, ran.stderr) == (
        2,
        "--signature needs --public-key, the key of the signer.\n",
    )


def test_a_signed_artefact_of_a_registry_is_pulled_by_the_command(
    content: bytes, tmp_path: Path
) -> None:
    key, models = signing.make_key(), tmp_path / "models"
    public = str(signing.write_public_key(key, tmp_path / "key.pem"))
    with run_stub() as host:
        files = {"model.onnx": content, "model.sig": signing.sign(key, {"model.onnx": content})}
        push_artefact(host, "someone/birds:v2", files)
        address = f"oci://{host}/someone/birds:v2"
        ran = run(tmp_path, "pull", address, "--to", str(models), "--public-key", public)
    place = models / "birds" / "1" / "model.onnx"
    said = f"{place} is ready. Its SHA-256 is {get_digest(content)}.\n"
    assert (ran.returncode, ran.stdout) == (0, said), ran.stderr


@pytest.mark.parametrize("digest", ["sha256:12", "12", "g" * 64])
def test_a_digest_that_is_none_is_refused_before_anything_is_fetched(
    digest: str, place: FileServer, tmp_path: Path
) -> None:
    before = list(place.asked)
    with pytest.raises(HubError, match="64 hexadecimal digits"):
        fetch(f"{place.url}/birds.onnx", tmp_path, digest)
    assert place.asked == before


@pytest.mark.parametrize("name", ["Birds", "../birds", ""])
def test_a_name_that_is_none_is_refused_before_anything_is_fetched(
    name: str, tmp_path: Path
) -> None:
    request = PullRequest(parse_source("https://host.invalid/"), tmp_path, name)
    with pytest.raises(HubError, match="name"):
        pull(request, Settings())  # type: ignore[call-arg]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hub", *arguments],
        cwd=ROOT,
        env=os.environ | {"HF_HOME": str(folder / "home")} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def test_a_revision_of_hugging_face_is_pulled_by_the_command(
    content: bytes, tmp_path: Path
) -> None:
    hub = HubServer({"someone/birds@v2": {"model.onnx": content}})
    with serving(hub):
        models = tmp_path / "models"
        ran = run(
            *(tmp_path, "pull", "hf://someone/birds@v2", "--to", str(models)), HF_ENDPOINT=hub.url
        )
        place = models / "birds" / "1" / "model.onnx"
        said = f"{place} is ready. Its SHA-256 is {get_digest(content)}.\n"
        assert (ran.returncode, ran.stdout) == (0, said), ran.stderr
        assert place.read_bytes() == content
        ran = run(
            *(tmp_path, "pull", "hf://someone/birds@v3", "--to", str(models)), HF_ENDPOINT=hub.url
        )
        assert ran.returncode == 2
        assert "hf://someone/birds@v3/model.onnx" in ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_a_file_in_memory_is_pulled_as_one_of_s3_is(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """fsspec opens both in the same way. With s3fs and moto at hand, the next test asks S3."""
    import fsspec

    fsspec.filesystem("memory").pipe("/bucket/birds.onnx", content)
    monkeypatch.setattr("hub.source.REMOTE", ("memory",))
    source = parse_source("memory://bucket/birds.onnx")
    pulled = pull(PullRequest(source, tmp_path), Settings(device="cpu"))  # type: ignore[call-arg]
    assert pulled.path.read_bytes() == content


def test_a_file_of_s3_is_pulled(content: bytes, tmp_path: Path) -> None:
    pytest.importorskip("s3fs", reason="needs s3fs, which our other packages do not go with")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        access = {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        with pytest.MonkeyPatch.context() as patch:
            for name, value in access.items():
                patch.setenv(name, value)
            import s3fs

            files = s3fs.S3FileSystem()
            files.mkdir("bucket")
            files.pipe("bucket/birds/3/model.onnx", content)
            request = PullRequest(parse_source("s3://bucket/birds/3"), tmp_path)
            pulled = pull(request, Settings(device="cpu"))  # type: ignore[call-arg]
        assert pulled.key == ("birds", 1)
        assert pulled.path.read_bytes() == content
    finally:
        server.stop()


def test_a_redirect_to_plain_http_is_not_followed(
    place: FileServer, content: bytes, tmp_path: Path
) -> None:
    plain, models = f"{place.url}/birds.onnx", tmp_path / "models"
    secure = FileServer({}, moved={"/birds.onnx": plain, "/ours.onnx": "/birds/7/model.onnx"})
    secure.files["/birds/7/model.onnx"] = content
    certificate = secure.use_tls(tmp_path)
    before = list(place.asked)
    with serving(secure):
        trust = {"SSL_CERT_FILE": str(certificate), "NO_PROXY": "*"}
        ours = run(tmp_path, "pull", f"{secure.url}/ours.onnx", "--to", str(models), **trust)
        assert (models / "ours" / "1" / "model.onnx").read_bytes() == content, ours.stderr
        ran = run(tmp_path, "pull", f"{secure.url}/birds.onnx", "--to", str(models), **trust)
    assert ran.returncode == 2
    assert f"{secure.url}/birds.onnx leads to {plain}, where anybody on the way" in ran.stderr
    assert place.asked == before
    assert list_files(models) == ["ours", "ours/1", "ours/1/model.onnx"]
