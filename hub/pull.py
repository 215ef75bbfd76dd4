"""Puts a model from elsewhere into a model repository: whole or not at all, and judged before.

The file is tried as the server tries it, in the same sandbox. A server that watches the repository
sees it only after that.
"""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hub.errors import HubError
from hub.fetch import MAX_BYTES, Progress, fetch
from hub.signature import MAX_BYTES as MAX_SIGNATURE_BYTES
from hub.signature import SIGNATURE_FILE, check_signature, read_public_key
from hub.source import Source
from service.artifact.card import InvalidArtifact
from service.artifact.layout import (
    NAME,
    VERSION,
    Key,
    UnreadableTree,
    make_model_path,
    scan_tree,
)
from service.artifact.regular_file import read_regular_file
from service.repository.sandbox import Sandbox
from service.repository.trial import try_model_file
from service.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

DIGEST = re.compile("[0-9a-fA-F]{64}")
PLACE_ATTEMPTS = 100  # if others write to the same place
PARTIAL = ".pull-"  # begins the name of a file that is not whole; a server passes over it


@dataclass(frozen=True)
class PullRequest:
    """What to pull, and where to."""

    source: Source
    models_dir: Path
    name: str | None = None  # by default what the address suggests
    version: int | None = None  # by default the next free one
    sha256: str | None = None  # that the file must have, in hexadecimal
    public_key: Path | None = None  # whose owner must have signed it
    signature: Source | None = None  # by default model.sig beside the file


@dataclass(frozen=True)
class Pulled:
    """Where the model is now. `is_new` is false if the newest version was the same file already."""

    key: Key
    path: Path
    sha256: str
    is_new: bool


def pull(request: PullRequest, settings: Settings, show: Progress = lambda _: None) -> Pulled:
    """Fetch a model file, try it and put it in place.

    Raises:
        HubError: it can't be fetched, it is another file than expected, it can't be served, or its
            place is taken.
    """
    name = choose_name(request)
    check_request(request)
    key = read_public_key(request.public_key) if request.public_key else None
    sandbox = Sandbox(partial(try_model_file, settings))
    sandbox.start()  # it forks, so before fsspec starts threads
    with make_partial_file(request.models_dir) as path:
        digest = fetch(request.source, path, show)
        if request.sha256 is not None and digest != request.sha256.lower():
            raise HubError(
                f"{request.source.text} has the SHA-256 {digest}, expected {request.sha256}. "
                "Nothing was put into the model repository."
            )
        if key:
            check_signer(request, key, digest)
        newest = find_newest(request.models_dir, name)
        if newest and request.version in (None, newest[1]) and has_digest(request, newest, digest):
            return Pulled(newest, make_model_path(request.models_dir, newest), digest, False)
        judge(path, request.source, sandbox)
        place = put_in_place(path, request.models_dir, name, request.version)
        return Pulled(place, make_model_path(request.models_dir, place), digest, True)


def check_request(request: PullRequest) -> None:
    """Check what can be checked before anything is fetched.

    Raises:
        HubError: something is missing or wrong.
    """
    if request.source.protocol == "http" and not (request.sha256 or request.public_key):
        raise HubError(
            "Anybody on the way can replace what comes over http://. Use https://, or name the "
            "digest of the file with --sha256, or its signer with --public-key."
        )
    if request.sha256 is not None and not DIGEST.fullmatch(request.sha256):
        raise HubError(f'--sha256 must be 64 hexadecimal digits, got "{request.sha256}".')
    if request.signature and not request.public_key:
        raise HubError("--signature needs --public-key, the key of the signer.")


def check_signer(request: PullRequest, key: "EllipticCurvePublicKey", digest: str) -> None:
    """Fetch the signature, and check it.

    Raises:
        HubError: there is none, or it is not one of this key and file.
    """
    signature = request.signature or request.source.find_beside(SIGNATURE_FILE)
    with make_partial_file(request.models_dir) as path:
        fetch(signature, path, lambda _: None, MAX_SIGNATURE_BYTES)
        content = path.read_bytes()
    try:
        check_signature(content, key, digest, request.source.parts)
    except HubError as exc:
        raise HubError(f"{exc} Nothing was put into the model repository.") from None


def choose_name(request: PullRequest) -> str:
    """The name of the model.

    Raises:
        HubError: it is no valid name, or the address suggests none.
    """
    name = request.name or request.source.guess_name()
    if name is None:
        raise HubError(f"Give the model of {request.source.text} a name, for example: --name birds")
    if not NAME.fullmatch(name):
        raise HubError(
            "The name of a model has only a-z, 0-9, '.', '_' and '-', and begins with a letter or "
            f'digit, got "{name}".'
        )
    return name


@contextmanager
def make_partial_file(models_dir: Path) -> Iterator[Path]:
    """Make a file in the repository that no server takes for a model, and remove it at the end.

    A repository that did not exist is removed as well if it is empty then: `sightglass serve` takes
    the bundled models only where there is no folder `models`.

    Raises:
        HubError: nothing can be written there.
    """
    new_folders = [folder for folder in (models_dir, *models_dir.parents) if not folder.exists()]
    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL, dir=models_dir)
    except OSError as exc:
        raise HubError(f"{models_dir} can't be written: {exc.strerror}.") from None
    os.close(descriptor)
    path = Path(name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty
            for folder in new_folders:
                folder.rmdir()


def find_newest(models_dir: Path, name: str) -> Key | None:
    """The newest version of a model in the repository."""
    try:
        keys = [key for key in scan_tree(models_dir).files if key[0] == name]
    except UnreadableTree as exc:
        raise HubError(str(exc)) from None
    return max(keys, default=None)


def find_free_version(folder: Path) -> int:
    """The version after those that have a folder."""
    versions = [int(path.name) for path in folder.glob("*") if VERSION.fullmatch(path.name)]
    return max(versions, default=0) + 1


def has_digest(request: PullRequest, key: Key, digest: str) -> bool:
    """Whether the file of a version is the one that was fetched."""
    try:
        content = read_regular_file(make_model_path(request.models_dir, key), MAX_BYTES)
    except InvalidArtifact:
        return False
    return sha256(content).hexdigest() == digest


def judge(path: Path, source: Source, sandbox: Sandbox) -> None:
    """Try the file as the server would before it serves it.

    Raises:
        HubError: the server would not serve it; the message says why.
    """
    try:
        sandbox.run(path)
    except InvalidArtifact as exc:
        reason = str(exc).replace(str(path), source.text)
        raise HubError(f"{reason} Nothing was put into the model repository.") from None


def put_in_place(path: Path, models_dir: Path, name: str, version: int | None) -> Key:
    """Rename the file to its place, by default the next free version. Return which that was.

    Others may add versions and remove folders at the same time.

    Raises:
        HubError: the version is there already, or nothing can be written there.
    """
    path.chmod(0o644)
    for _ in range(PLACE_ATTEMPTS):
        key = name, version or find_free_version(models_dir / name)
        place = make_model_path(models_dir, key)
        try:
            place.parents[1].mkdir(exist_ok=True)
            place.parent.mkdir()  # nobody else has this version from here on
        except FileExistsError:
            if version:
                raise HubError(
                    f"{place.parent} is there already. Name another version with --version, or "
                    "none."
                ) from None
            continue
        except FileNotFoundError:  # the folder of the model was removed
            continue
        except OSError as exc:
            raise HubError(f"{place.parent} can't be made: {exc.strerror}.") from None
        try:
            path.rename(place)
        except OSError as exc:
            with suppress(OSError):
                place.parent.rmdir()
            if not isinstance(exc, FileNotFoundError):  # the folder of the version was removed
                raise HubError(f"{place} can't be written: {exc.strerror}.") from None
        else:
            return key
    raise HubError(f"{models_dir / name} changes all the time. Try again.")
