"""A signature counts only if the key's owner made it, of exactly this file."""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from hub.errors import HubError
from hub.signature import check_signature, read_public_key
from tests.hub import signing

CONTENT = b"a model"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
PARTS = ("models", "birds", "3", "model.onnx")


@pytest.mark.parametrize("signature", [signing.STOCK_SIGNATURE, signing.STOCK_FOLDER_SIGNATURE])
def test_signatures_of_the_stock_package_are_accepted(signature: bytes, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(signing.STOCK_KEY)
    key = read_public_key(tmp_path / "key.pem")
    digest = hashlib.sha256(signing.STOCK_CONTENT).hexdigest()
    check_signature(signature, key, digest, PARTS)
    with pytest.raises(HubError, match=f"with the SHA-256 {digest}, got {DIGEST}"):
        check_signature(signature, key, DIGEST, PARTS)


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()])
@pytest.mark.parametrize("name", [".", "model.onnx", "3/model.onnx"])
def test_keys_of_each_curve_and_files_of_a_folder_are_accepted(
    curve: ec.EllipticCurve, name: str, tmp_path: Path
) -> None:
    private = signing.make_key(curve)
    key = read_public_key(signing.write_public_key(private, tmp_path / "key.pem"))
    check_signature(signing.sign(private, {"a": b"", name: CONTENT}), key, DIGEST, PARTS)


def test_another_key_is_refused(tmp_path: Path) -> None:
    key = read_public_key(signing.write_public_key(signing.make_key(), tmp_path / "key.pem"))
    with pytest.raises(HubError, match="not made with this key"):
        check_signature(signing.sign(signing.make_key(), {".": CONTENT}), key, DIGEST, PARTS)


def test_another_file_of_a_signed_folder_is_refused(tmp_path: Path) -> None:
    private = signing.make_key()
    key = read_public_key(signing.write_public_key(private, tmp_path / "key.pem"))
    files = {"model.onnx": b"the model", "old/model.onnx": CONTENT}
    with pytest.raises(HubError, match="The signature is of a file with the SHA-256"):
        check_signature(signing.sign(private, files), key, DIGEST, PARTS)
    with pytest.raises(HubError, match=r"not of a file model\.onnx"):
        check_signature(signing.sign(private, {"birds.onnx": CONTENT}), key, DIGEST, PARTS)


def test_a_statement_that_was_changed_is_refused(tmp_path: Path) -> None:
    private = signing.make_key()
    key = read_public_key(signing.write_public_key(private, tmp_path / "key.pem"))
    bundle = json.loads(signing.sign(private, {".": b"another"}))
    statement = base64.b64decode(bundle["dsseEnvelope"]["payload"])
    forged = statement.replace(hashlib.sha256(b"another").hexdigest().encode(), DIGEST.encode())
    assert forged != statement
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(forged).decode()
    with pytest.raises(HubError, match="was changed"):
        check_signature(json.dumps(bundle).encode(), key, DIGEST, PARTS)


def test_other_hashes_than_sha256_are_named(tmp_path: Path) -> None:
    private = signing.make_key()
    key = read_public_key(signing.write_public_key(private, tmp_path / "key.pem"))
    with pytest.raises(HubError, match="no SHA-256 of whole files"):
        check_signature(signing.sign(private, {".": CONTENT}, "blake2b"), key, DIGEST, PARTS)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"\xff", b"[]", b"{}", b'{"dsseEnvelope": 3}', b'{"dsseEnvelope": {"payload": 3}}'),
        b'{"dsseEnvelope": {"payload": "!", "payloadType": "application/vnd.in-toto+json"}}',
        b'{"messageSignature": {"signature": ""}}',
        b'{"dsseEnvelope": {"payload": "", "payloadType": "application/vnd.in-toto+json", '
        b'"signatures": []}}',
        b"[" * 100_000,
    ],
)
def test_what_is_no_signature_is_refused_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    key = read_public_key(signing.write_public_key(signing.make_key(), tmp_path / "key.pem"))
    with pytest.raises(HubError, match="is no bundle of OpenSSF model signing"):
        check_signature(content, key, DIGEST, PARTS)


def test_a_key_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(HubError, match="can't be read"):
        read_public_key(path)
    path.write_text("no key")
    with pytest.raises(HubError, match="is not a public key in PEM"):
        read_public_key(path)
    signing.write_public_key(signing.make_key(ec.SECP256K1()), path)
    with pytest.raises(HubError, match="P-256, P-384 or P-521"):
        read_public_key(path)
    for private in (
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
    ):
        public = private.public_key()
        path.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(HubError, match="P-256, P-384 or P-521"):
            read_public_key(path)
