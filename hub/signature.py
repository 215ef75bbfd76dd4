"""Checks the signature of a model file, made with a key by OpenSSF model signing.

A signature is a Sigstore bundle: a DSSE envelope around an in-toto statement, which has the SHA-256
of each file. The package `model-signing` writes it. Reading one that a key made takes only
cryptography, and not the 18 packages that it installs (31 MB). This module knows no network and no
ONNX.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.errors import HubError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

SIGNATURE_FILE = "model.sig"  # beside the model, as the package calls it
MAX_BYTES = 1 << 20  # of a signature
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
HASHES = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}  # by curve
ONE_FILE = "."  # the name of a file that was signed alone


def read_public_key(path: Path) -> "EllipticCurvePublicKey":
    """Read a public key in PEM.

    Raises:
        HubError: there is none that signatures can be checked with.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise HubError(
            "Checking a signature needs the package cryptography. Install the extra: pip install "
            '"sightglass[hub]"'
        ) from None
    try:
        key = load_pem_public_key(path.read_bytes())
    except OSError as exc:
        raise HubError(f"The public key {path} can't be read: {exc.strerror}.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise HubError(f"{path} is not a public key in PEM.") from None
    if not isinstance(key, EllipticCurvePublicKey) or key.curve.name not in HASHES:
        raise HubError(f"{path} must be a key of the curve P-256, P-384 or P-521.")
    return key


def check_signature(
    content: bytes, key: "EllipticCurvePublicKey", digest: str, parts: tuple[str, ...]
) -> None:
    """Check that the owner of the key signed a file with this SHA-256.

    `parts` are its folders and name, since a signature of a whole folder names each file.

    Raises:
        HubError: the signature is broken, is of another key, or is of other content.
    """
    try:
        payload = open_envelope(json.loads(content)["dsseEnvelope"], key)
        signed = dict(list_digests(json.loads(payload), parts))
    except HubError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise HubError("The signature is no bundle of OpenSSF model signing with a key.") from None
    if not signed:
        raise HubError(f"The signature is not of a file {parts[-1]}.")
    if digest not in signed.values():
        expected = next(iter(signed.values()))
        raise HubError(f"The signature is of a file with the SHA-256 {expected}, got {digest}.")


def open_envelope(envelope: dict[str, Any], key: "EllipticCurvePublicKey") -> bytes:
    """Return what is in it, if the key's owner signed it.

    Raises:
        HubError: somebody else did.
        Exception: it is no envelope.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    payload = decode(envelope["payload"])
    if envelope["payloadType"] != PAYLOAD_TYPE:
        raise ValueError(envelope["payloadType"])
    signed = f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload
    algorithm = ECDSA(getattr(hashes, HASHES[key.curve.name])())
    [signature] = envelope["signatures"]
    try:
        key.verify(decode(signature["sig"]), signed, algorithm)
    except InvalidSignature:
        raise HubError("The signature was not made with this key, or was changed.") from None
    return payload


def list_digests(statement: dict[str, Any], parts: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """The names and SHA-256 of the signed files that may be the one with these `parts`.

    Raises:
        HubError: it has no SHA-256 of whole files.
        Exception: it is no statement.
    """
    if statement["predicateType"] != PREDICATE_TYPE:
        raise ValueError(statement["predicateType"])
    predicate, whole = statement["predicate"], hashlib.sha256()
    how = predicate["serialization"]
    if (how["method"], how["hash_type"]) != ("files", "sha256"):
        raise HubError("The signature has no SHA-256 of whole files. Sign the file anew.")
    for resource in predicate["resources"]:
        whole.update(bytes.fromhex(resource["digest"]))
        names = tuple(resource["name"].split("/"))
        if names == (ONE_FILE,) or names == parts[-len(names) :]:
            yield resource["name"], resource["digest"].lower()
    [subject] = statement["subject"]
    if subject["digest"]["sha256"] != whole.hexdigest():
        raise ValueError(subject)


def decode(text: str) -> bytes:
    """Read base64."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as exc:
        raise ValueError(str(exc)) from None
