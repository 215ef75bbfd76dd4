"""Signs files as OpenSSF model signing does, and has a signature that its package made."""

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PAYLOAD_TYPE = "application/vnd.in-toto+json"

# Written by model-signing 1.1.1, of a file `birds.onnx` with the content STOCK_CONTENT:
# model_signing sign key birds.onnx --private_key key.pem --signature model.sig
STOCK_CONTENT = b"birds\n"
STOCK_KEY = """\
-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExU8xuEAOi2k0E6i4ccwVxR57hwBw
Z4uO9bCkSmCvrc0RQn1qEkc7W1apxxj9NiBsfEszsUhQfc/WwteBJASNQA==
-----END PUBLIC KEY-----
"""
STOCK_SIGNATURE = b"""\
{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey"\
:{"hint":"d7a95c1855a93cc87ae77ffa8ecd529fdd3086d76de501825217ee5d9d155fb6"},"tlogEntries":[]},"\
dsseEnvelope":{"payload":"ewogICJfdHlwZSI6ICJodHRwczovL2luLXRvdG8uaW8vU3RhdGVtZW50L3YxIiwKICAic3\
ViamVjdCI6IFsKICAgIHsKICAgICAgIm5hbWUiOiAiYmlyZHMub25ueCIsCiAgICAgICJkaWdlc3QiOiB7CiAgICAgICAgIn\
NoYTI1NiI6ICJkZGVkMDBkY2ZiOWY3MDMzZmQ3ZTMxMTU3MTk4MzI4YmE1NjUxN2ZkOTJlM2I0NjE1NjAxYzA2MDlmMzY5YT\
EyIgogICAgICB9CiAgICB9CiAgXSwKICAicHJlZGljYXRlVHlwZSI6ICJodHRwczovL21vZGVsX3NpZ25pbmcvc2lnbmF0dX\
JlL3YxLjAiLAogICJwcmVkaWNhdGUiOiB7CiAgICAicmVzb3VyY2VzIjogWwogICAgICB7CiAgICAgICAgImFsZ29yaXRobS\
I6ICJzaGEyNTYiLAogICAgICAgICJkaWdlc3QiOiAiOTgyMDdlNzIwNDQwMDAxYzE4MGYwOGYzYzNkOGY4MWFlOGNhMzU2Mm\
I0MGU1NzNiMGZmYWU3OTZkNDA2YjQ0OSIsCiAgICAgICAgIm5hbWUiOiAiLiIKICAgICAgfQogICAgXSwKICAgICJzZXJpYW\
xpemF0aW9uIjogewogICAgICAibWV0aG9kIjogImZpbGVzIiwKICAgICAgImFsbG93X3N5bWxpbmtzIjogZmFsc2UsCiAgIC\
AgICJpZ25vcmVfcGF0aHMiOiBbCiAgICAgICAgIi5naXRhdHRyaWJ1dGVzIiwKICAgICAgICAiLmdpdCIsCiAgICAgICAgIi\
5naXRpZ25vcmUiLAogICAgICAgICIuZ2l0aHViIgogICAgICBdLAogICAgICAiaGFzaF90eXBlIjogInNoYTI1NiIKICAgIH\
0KICB9Cn0=","payloadType":"application/vnd.in-toto+json","signatures":[{"sig":"MEYCIQCdnKMFjh81G\
1SHQE5o9HZ4C0OvZFr+4G5s8RTSIMyb2gIhAIU6DcjKKxOITW5rBVnVRFJe+EKQXZTEKZJMHPAtShan","keyid":""}]}}"""
# And of a folder with this file and `notes.txt`.
STOCK_FOLDER_SIGNATURE = b"""\
{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey"\
:{"hint":"d7a95c1855a93cc87ae77ffa8ecd529fdd3086d76de501825217ee5d9d155fb6"},"tlogEntries":[]},"\
dsseEnvelope":{"payload":"ewogICJfdHlwZSI6ICJodHRwczovL2luLXRvdG8uaW8vU3RhdGVtZW50L3YxIiwKICAic3\
ViamVjdCI6IFsKICAgIHsKICAgICAgIm5hbWUiOiAiZm9sZGVyIiwKICAgICAgImRpZ2VzdCI6IHsKICAgICAgICAic2hhMj\
U2IjogIjdlZGY1N2JmZTRhMzllZTBkMTQ2NmExYmIwMzZkZWViYzVhMzNkZDkyZTc2ZWQ2YzRlNjllMzM3Nzk4YzhlMWQiCi\
AgICAgIH0KICAgIH0KICBdLAogICJwcmVkaWNhdGVUeXBlIjogImh0dHBzOi8vbW9kZWxfc2lnbmluZy9zaWduYXR1cmUvdj\
EuMCIsCiAgInByZWRpY2F0ZSI6IHsKICAgICJyZXNvdXJjZXMiOiBbCiAgICAgIHsKICAgICAgICAiYWxnb3JpdGhtIjogIn\
NoYTI1NiIsCiAgICAgICAgIm5hbWUiOiAibW9kZWwub25ueCIsCiAgICAgICAgImRpZ2VzdCI6ICI5ODIwN2U3MjA0NDAwMD\
FjMTgwZjA4ZjNjM2Q4ZjgxYWU4Y2EzNTYyYjQwZTU3M2IwZmZhZTc5NmQ0MDZiNDQ5IgogICAgICB9LAogICAgICB7CiAgIC\
AgICAgImFsZ29yaXRobSI6ICJzaGEyNTYiLAogICAgICAgICJuYW1lIjogIm5vdGVzLnR4dCIsCiAgICAgICAgImRpZ2VzdC\
I6ICIzODllZDY4ODdlNDlhMzE1ZjcwNmY2YzJiOTMxYjFkY2YwZDc5N2M5MTQzNzEyNGYzMmViOTg1NTVjNjY5NzU4IgogIC\
AgICB9CiAgICBdLAogICAgInNlcmlhbGl6YXRpb24iOiB7CiAgICAgICJhbGxvd19zeW1saW5rcyI6IGZhbHNlLAogICAgIC\
AiaGFzaF90eXBlIjogInNoYTI1NiIsCiAgICAgICJtZXRob2QiOiAiZmlsZXMiLAogICAgICAiaWdub3JlX3BhdGhzIjogWw\
ogICAgICAgICIuZ2l0IiwKICAgICAgICAiLmdpdGlnbm9yZSIsCiAgICAgICAgIi5naXRodWIiLAogICAgICAgICIuZ2l0YX\
R0cmlidXRlcyIKICAgICAgXQogICAgfQogIH0KfQ==","payloadType":"application/vnd.in-toto+json","signat\
ures":[{"sig":"MEQCICIosn0dPJWMnZmWo8LbYX2MH4MuNti+HoqqHA2IO7YcAiAJuYNhMtNPcswpyiAkOpvmVG0xIQT88\
rLYNyNEs+BR4w==","keyid":""}]}}"""


def make_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def write_public_key(key: ec.EllipticCurvePrivateKey, path: Path) -> Path:
    pem, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    path.write_bytes(key.public_key().public_bytes(pem, form))
    return path


def sign(
    key: ec.EllipticCurvePrivateKey, files: dict[str, bytes], hash_type: str = "sha256"
) -> bytes:
    """Return the signature of files by name; a file that is signed alone is called "."."""
    digests = {name: hashlib.sha256(content) for name, content in files.items()}
    whole = hashlib.sha256(b"".join(digest.digest() for digest in digests.values()))
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "birds", "digest": {"sha256": whole.hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": hash_type, "allow_symlinks": False},
            "resources": [
                {"name": name, "algorithm": "sha256", "digest": digest.hexdigest()}
                for name, digest in digests.items()
            ],
        },
    }
    payload = json.dumps(statement).encode()
    signed = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    kinds = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
    signature = key.sign(signed, ec.ECDSA(kinds[key.curve.key_size]))
    return json.dumps(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": "any"}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
            },
        }
    ).encode()


def write_certificate(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of localhost, signed with its own key, and the key."""
    key, name = make_key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    places = folder / "certificate.pem", folder / "certificate.key"
    places[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    places[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return places
