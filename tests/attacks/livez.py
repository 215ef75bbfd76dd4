"""Asks `/livez` again and again, in a process of its own: an attack may keep the other one busy.

`python -m tests.attacks.livez PORT` prints the seconds of each answer, until its input ends.
"""

import contextlib
import http.client
import select
import subprocess
import sys
import time
from collections.abc import Iterator

POLL_SECONDS = 0.02
PATIENCE = 60


@contextlib.contextmanager
def poll_livez(port: int, seconds: list[float]) -> Iterator[None]:
    """Ask until the block ends, then append the seconds of each answer to `seconds`."""
    poller = subprocess.Popen(
        [sys.executable, "-m", __name__, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert poller.stdout
    poller.stdout.readline()  # the first answer: the process is up
    try:
        yield
    finally:
        printed, _ = poller.communicate(timeout=2 * PATIENCE)
        seconds += map(float, printed.split())


def main(port: int) -> None:
    """Print the seconds of each answer on a line of its own."""
    while True:
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with (
            contextlib.closing(connection),
            contextlib.suppress(OSError, http.client.HTTPException),
        ):
            connection.request("GET", "/livez")
            connection.getresponse().read()
        print(time.perf_counter() - started, flush=True)  # noqa: T201
        if select.select([sys.stdin], [], [], POLL_SECONDS)[0]:
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
