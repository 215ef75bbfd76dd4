"""Reads a response of httpx up to a bound, and says why there is none. Knows no JSON."""

import httpx

from client.errors import ConnectionFailed, ServiceFailure, SightglassError, Timeout
from client.replies import Reply

# Compressions that make at most 1,032 times as much of what arrives at once, which is 64 kB. httpx
# would undo others, too, whatever they come to.
CODINGS = ("gzip", "deflate")
FAULTS = (httpx.HTTPError, httpx.InvalidURL, SightglassError)  # of a redirect, which is not taken


class ReplyReader:
    """Collects the pieces of one response."""

    def __init__(self, response: httpx.Response, most: int) -> None:
        self._response = response
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        if coding not in ("identity", *CODINGS):  # several are one text with commas
            raise self._make_failure("is compressed as it was not asked for")

    def add(self, piece: bytes) -> None:
        """Take the next piece.

        Raises:
            ServiceFailure: these are too many bytes.
        """
        self._size += len(piece)
        if self._size > self._most:
            raise self._make_failure(f"has more than `max_answer_bytes`={self._most}")
        self._pieces.append(piece)

    def finish(self) -> Reply:
        """Return what a flow takes of the response."""
        response = self._response
        return Reply(response.status_code, dict(response.headers), b"".join(self._pieces))

    def _make_failure(self, fault: str) -> ServiceFailure:
        response = self._response
        return ServiceFailure(
            f"The answer with the status {response.status_code} {fault}.",
            response.status_code,
            response.headers.get("x-request-id", ""),
        )


def translate(exc: Exception) -> SightglassError:
    """Return the exception for a request whose answer could not be read."""
    if isinstance(exc, SightglassError):
        return exc
    if isinstance(exc, httpx.TimeoutException):
        return Timeout(f"The service did not answer in time ({type(exc).__name__}).")
    if isinstance(exc, httpx.DecodingError | httpx.InvalidURL):
        return ServiceFailure(f"The answer is not the service's: {type(exc).__name__}.")
    return ConnectionFailed(f"The service can't be reached: {exc or type(exc).__name__}.")
