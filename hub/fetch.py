"""Copies a model file from where it is. Judges nothing of its content but size and digest."""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hub.errors import HubError
from hub.source import CONNECT_SECONDS, SILENT_SECONDS, Source

if TYPE_CHECKING:
    from aiohttp import TraceConfig

MAX_BYTES = 2 << 30  # protobuf, and so an ONNX file, ends there
CHUNK_BYTES = 1 << 20
MISSING = (404, 410)  # statuses of HTTP
PACKAGES = {
    "oci": "httpx",
    "s3": "s3fs",
    "gs": "gcsfs",
    "hf": "huggingface_hub",
    "https": "aiohttp",
}

Progress = Callable[[int], None]  # takes the number of bytes so far


def fetch(source: Source, path: Path, show: Progress, limit: int = MAX_BYTES) -> str:
    """Copy the file to `path`; return its SHA-256 in hexadecimal. The copy is on the disk then.

    Raises:
        HubError: it can't be read, has more than `limit` bytes, or is not what a registry promised.
    """
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        with open_source(source) as (pieces, expected):
            digest = copy(pieces, path, source, show, limit)
        if expected and digest != expected:
            raise HubError(f"{source.text} has the SHA-256 {digest}, expected {expected}.")
        return digest
    except HubError:
        raise
    except ImportError:
        package = PACKAGES.get(source.protocol, "fsspec")
        raise HubError(describe_missing(package, source)) from None
    except FileNotFoundError as exc:
        cause = exc.__cause__  # fsspec takes every error of HTTP for a missing file
        if isinstance(cause, HubError):
            raise cause from None
        is_http = source.protocol in ("http", "https")
        if is_http and cause and getattr(cause, "status", None) not in MISSING:
            raise HubError(f"{source.url} can't be read: {cause}") from None
        raise HubError(f"There is no file at {source.url}.") from None
    except Exception as exc:  # each protocol has exceptions of its own
        raise HubError(f"{source.url} can't be read: {str(exc) or type(exc).__name__}") from None


@contextmanager
def open_source(source: Source) -> Iterator[tuple[Iterable[bytes], str]]:
    """Give the content in pieces, and the SHA-256 that it must have if the source says so."""
    if source.protocol == "oci":
        from hub.registry import open_file

        with open_file(source.url) as opened:
            yield opened
    else:
        import fsspec

        with fsspec.open(source.url, "rb", **make_options(source)) as remote:
            yield iter(lambda: remote.read(CHUNK_BYTES), b""), ""


def make_options(source: Source) -> dict[str, Any]:
    """How to open it: over HTTP in one piece, by a server that may take as long as it sends."""
    if source.protocol == "hf":
        return {"block_size": 0}
    if source.protocol in ("http", "https"):
        import aiohttp

        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS
        )
        client = {
            "timeout": timeout,
            "trust_env": True,
            "auto_decompress": False,  # a short answer could unpack to any size
            "headers": {"Accept-Encoding": "identity"},
        }
        if source.protocol == "https":
            client["trace_configs"] = [_forbid_plain_http()]
        return {"block_size": 0, "client_kwargs": client}
    return {}


def _forbid_plain_http() -> "TraceConfig":
    """Make a session raise HubError when it is sent from https:// to http://."""
    import aiohttp
    from yarl import URL  # a part of aiohttp

    async def check(
        _session: object, _context: object, redirect: aiohttp.TraceRequestRedirectParams
    ) -> None:
        answer = redirect.response
        target = answer.url.join(URL(answer.headers.get("Location", "")))
        if target.scheme == "http":
            raise HubError(
                f"{redirect.url} leads to {target}, where anybody on the way can replace the file. "
                "Give that address itself, with --sha256 or --public-key."
            )

    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(check)
    return tracing


def copy(pieces: Iterable[bytes], path: Path, source: Source, show: Progress, limit: int) -> str:
    """Write the pieces to a file; return its SHA-256."""
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for chunk in pieces:
            size += len(chunk)
            if size > limit:
                kind = "ONNX file" if limit == MAX_BYTES else "signature"
                raise HubError(f"{source.text} has more than {limit} bytes, so it is no {kind}.")
            digest.update(chunk)
            file.write(chunk)
            show(size)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def describe_missing(package: str, source: Source) -> str:
    """The sentence for a package that is not installed."""
    return (
        f"{source.text} can't be read without the package {package}. Install the extra: "
        'pip install "sightglass[hub]"'
    )
