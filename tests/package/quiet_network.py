"""Runs a server where nobody can be reached, and notes whose address it or its children look up.

Run it in network and mount namespaces of its own: `unshare --map-root-user --net --mount`. There
the only name server is this module. So a look-up is noticed whoever makes it, Python or a library.
"""

import contextlib
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1  # of netdevice(7)
NAME_SERVER = ("127.0.0.1", 53)
HEADER_BYTES = 12  # of a DNS message; the name that is asked for follows
NO_SUCH_NAME = 0x8183
PATIENCE = 120
LINGER_SECONDS = 2.0  # reports of usage are sent in the background


def raise_loopback() -> None:
    """Let this namespace reach itself."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh22x", b"lo", 0)
        _, flags = struct.unpack("16sh22x", fcntl.ioctl(control, SIOCGIFFLAGS, request))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | IFF_UP))


def become_name_server(asked: list[str]) -> None:
    """Answer every look-up with "no such name", and note the name."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"nameserver {NAME_SERVER[0]}\noptions attempts:1 timeout:1\n")
        file.flush()
        subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(NAME_SERVER)

    def answer() -> None:
        while True:
            query, client = listener.recvfrom(4096)
            asked.append(read_name(query))
            head = struct.pack(">HHHHHH", int.from_bytes(query[:2]), NO_SUCH_NAME, 1, 0, 0, 0)
            listener.sendto(head + query[HEADER_BYTES : find_end(query)], client)

    threading.Thread(target=answer, daemon=True).start()


def read_name(query: bytes) -> str:
    """The name in the first question of a DNS message."""
    parts, place = [], HEADER_BYTES
    while length := query[place]:
        parts.append(query[place + 1 : place + 1 + length].decode())
        place += 1 + length
    return ".".join(parts)


def find_end(query: bytes) -> int:
    """Where the first question of a DNS message ends: after name, type and class."""
    return query.index(0, HEADER_BYTES) + 5


def call_server(url: str, picture: Path, process: "subprocess.Popen[bytes]") -> str:
    """Wait until the server is ready, and return what it says of the picture."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/readyz", timeout=5).close()
        except OSError:
            time.sleep(0.1)
            continue
        request = urllib.request.Request(f"{url}/predict", picture.read_bytes())
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return str(json.load(answer)["predictions"][0]["label"])
    return ""


def main(picture: Path, port: str, log: Path, *command: str) -> None:
    """Print the names that were looked up, and the label of the picture, as JSON."""
    asked: list[str] = []
    raise_loopback()
    become_name_server(asked)
    with contextlib.suppress(socket.gaierror):
        socket.getaddrinfo("the-watch-works.invalid", 80)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    label = call_server(f"http://127.0.0.1:{port}", picture, process)
    time.sleep(LINGER_SECONDS)
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)
    print(json.dumps({"asked": sorted(set(asked)), "label": label}))  # noqa: T201
    sys.stdout.flush()
    os._exit(0)  # the thread of the name server waits for ever


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), *sys.argv[4:])
