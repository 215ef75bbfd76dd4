"""Cuts what a connection receives into whole HTTP/2 frames, before anything parses them.

It limits what a client could send without end: frames that carry little and cost as much as others,
and headers. It knows lengths and types of frames, and nothing of what they say.
"""

from time import monotonic

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME_HEAD_BYTES = 9
MAX_FRAME_BYTES = 16_384
MAX_HEAD_BYTES = 16_384  # of one call's headers
FRAMES_PER_TURN = 16
HEAD_BYTES_PER_TURN = 4096  # of headers, which may be coded so that reading them takes long
SHORT_HEAD_BYTES = 1024  # which take little time in any code
SMALL_BYTES = 256  # a frame of data with fewer costs more than it brings
DATA, HEADERS, CONTINUATION = 0, 1, 9
END_HEADERS, PADDED = 4, 8  # flags
COSTLY_BYTES = 64  # of a frame without data: a longer one counts more than once
MAX_CREDIT = 512.0  # small frames at once
CREDIT_PER_SECOND = 100.0
CREDIT_PER_ANSWER = 8.0  # a call needs a few small frames
CREDIT_PER_BYTE = 1 / 2048  # of an answer, which the client must acknowledge


class Violation(Exception):
    """The connection must end; the message says why."""


class Frames:
    """The bytes of one connection that are no whole frame yet, and its credit for small frames."""

    def __init__(self) -> None:
        self._rest = b""
        self._is_open = False  # the preface has come
        self.has_long_heads = False  # what was cut last
        self._head_bytes = 0  # of headers without their end
        self._credit = MAX_CREDIT
        self._since = monotonic()

    @property
    def held_bytes(self) -> int:
        """Bytes kept for a frame, or for headers, whose end has not come."""
        return len(self._rest) + self._head_bytes

    def add_credit(self, sent_bytes: int) -> None:
        """Let the client send a few more small frames, because it got an answer."""
        self._credit += CREDIT_PER_ANSWER + sent_bytes * CREDIT_PER_BYTE

    def cut(self, data: bytes) -> list[bytes]:
        """Return all whole frames, a few in each piece, with the preface where it has just come.

        Raises:
            Violation: This is not HTTP/2, or more than a limit allows.
        """
        received = self._rest + data if self._rest else data
        begin = end = 0
        if not self._is_open:
            if received[: len(PREFACE)] != PREFACE[: len(received)]:
                raise Violation("it does not speak HTTP/2")
            if len(received) < len(PREFACE):
                self._rest = received
                return []
            self._is_open, end = True, len(PREFACE)
        pieces, count, head_bytes = [], 0, 0
        self.has_long_heads = False
        while end + FRAME_HEAD_BYTES <= len(received):
            size = int.from_bytes(received[end : end + 3], "big")
            if size > MAX_FRAME_BYTES:
                raise Violation(f"a frame has more than {MAX_FRAME_BYTES} bytes")
            if end + FRAME_HEAD_BYTES + size > len(received):
                break
            kind, flags = received[end + 3], received[end + 4]
            is_padded = kind == DATA and flags & PADDED and size
            padding = received[end + FRAME_HEAD_BYTES] if is_padded else 0
            self._count(kind, flags, size - padding)
            end += FRAME_HEAD_BYTES + size
            count += 1
            head_bytes += size if kind in (HEADERS, CONTINUATION) else 0
            self.has_long_heads |= head_bytes > SHORT_HEAD_BYTES
            if count == FRAMES_PER_TURN or head_bytes >= HEAD_BYTES_PER_TURN:
                pieces.append(received[begin:end])
                begin, count, head_bytes = end, 0, 0
        if begin < end:
            pieces.append(received[begin:end])
        self._rest = received[end:]
        return pieces

    def discard(self) -> None:
        """Forget what is held."""
        self._rest, self._head_bytes = b"", 0

    def _count(self, kind: int, flags: int, size: int) -> None:
        if kind in (HEADERS, CONTINUATION):
            self._head_bytes += size
            if self._head_bytes > MAX_HEAD_BYTES:
                raise Violation(f"more than {MAX_HEAD_BYTES} bytes of headers were sent")
            if flags & END_HEADERS:
                self._head_bytes = 0
        if kind == HEADERS or (kind == DATA and size >= SMALL_BYTES):
            return
        self._credit -= 1 if kind == DATA else 1 + size // COSTLY_BYTES
        if self._credit < 0:
            now = monotonic()
            earned = (now - self._since) * CREDIT_PER_SECOND
            self._credit, self._since = min(MAX_CREDIT, self._credit + earned), now
            if self._credit < 0:
                raise Violation("too many small frames were sent")
