"""What a connection received and has not parsed: each piece waits for a turn of its own.

Meanwhile the connection is not read, else a long body would gather here. Knows no protocol.
"""

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Protocol

from service.server.reading import Readable
from service.server.turns import Turns

Piece = bytes | memoryview


class Parsing(Readable, Protocol):
    """What this module needs of a connection."""

    def parse(self, piece: Piece) -> None:
        """Parse what was received."""

    def count_unparsed(self, size: int) -> None:
        """Count bytes that wait; negative: that is their turn."""


class Unparsed:
    """The pieces of one connection, in order.

    It does not refer to the connection, which would then not be freed as soon as it is lost.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._pieces: deque[Piece] = deque()

    def __bool__(self) -> bool:
        """Return whether something waits."""
        return bool(self._pieces)

    def add(self, pieces: Iterable[Piece], connection: Parsing) -> None:
        """Let pieces wait for their turns."""
        for piece in pieces:
            if not self._pieces:
                self._turns.add(partial(self._take_turn, connection))
                connection.transport.pause_reading()
            self._pieces.append(piece)
            connection.count_unparsed(len(piece))

    def drop(self) -> int:
        """Forget all pieces, and return how many bytes they had. They are not counted down."""
        size = sum(map(len, self._pieces))
        self._pieces.clear()
        return size

    def _take_turn(self, connection: Parsing) -> None:
        if self._pieces:  # else they were dropped
            piece = self._pieces.popleft()
            connection.count_unparsed(-len(piece))
            connection.parse(piece)
        if self._pieces:
            self._turns.add(partial(self._take_turn, connection))
        elif connection.wants_reading() and not connection.transport.is_closing():
            connection.transport.resume_reading()
