"""Listens on one port several times, to accept more connections in each turn of the event loop.

uvloop accepts one for each listening socket, and then sees to everything else. A connection behind
thousands of others would wait for thousands of turns. What connections inherit from the socket is
set here, too.
"""

import socket
import sys

import uvicorn

ACCEPTED_PER_TURN = 8  # each takes less than 0.1 ms
KERNEL_BYTES = 131_072  # of an answer in the kernel and not yet sent, which would take megabytes


def prepare_listener(listener: socket.socket) -> list[socket.socket]:
    """Return the socket and copies of it, which take connections from the same queue.

    The kernel will hold little of an answer that its client does not take.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # Windows does not have it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES)
    if sys.platform == "win32":  # its event loop accepts one after the other without copies
        return [listener]
    return [listener, *(listener.dup() for _ in range(ACCEPTED_PER_TURN - 1))]


class EagerServer(uvicorn.Server):
    """uvicorn's server, which accepts more connections in each turn of the event loop."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen. The server closes the copies, and whoever opened a socket closes that."""
        copies = [copy for listener in sockets or () for copy in prepare_listener(listener)]
        await super().startup(copies or None)


def install_server() -> None:
    """Replace the server that BentoML runs. It leaves no choice."""
    uvicorn.Server = EagerServer  # type: ignore[misc]
