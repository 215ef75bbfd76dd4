"""Waits until the service is ready, and tells the person at the terminal how to call it."""

import json
import shlex
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import NamedTuple

BUNDLED_EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "dog_and_cat.jpg"
POLL_SECONDS = (0.1, 0.5)  # the first pause and the longest one


class ReadyMessage(NamedTuple):
    """What the person at the terminal reads once the service is ready."""

    url: str
    workers: int
    is_bundled: bool  # the default model is the one for photographs

    def __str__(self) -> str:
        processes = f" with {self.workers} worker processes" if self.workers > 1 else ""
        picture = shlex.quote(find_example()) if self.is_bundled else "picture.jpg"
        predict, gradcam = (shlex.quote(f"{self.url}/{call}") for call in ("predict", "gradcam"))
        return (
            f"Sightglass is ready on {self.url}{processes}. Press Ctrl-C to stop it.\n"
            "Try it in another terminal:\n"
            f"  curl -F image=@{picture} {predict}\n"
            f"  curl -F image=@{picture} {gradcam} -o heatmap.png"
        )


def find_example() -> str:
    """The path of the bundled picture, from the current folder if it is below it."""
    try:
        return str(BUNDLED_EXAMPLE.relative_to(Path.cwd()))
    except ValueError:
        return str(BUNDLED_EXAMPLE)


def make_url(host: str, port: int) -> str:
    """Return the address as a URL. An IPv6 address stands in brackets there."""
    return f"http://[{host.replace('%', '%25')}]:{port}" if ":" in host else f"http://{host}:{port}"


def announce_ready(process: subprocess.Popen[bytes], ready: ReadyMessage) -> None:
    """Print the message as soon as the default model can answer."""
    pause, longest_pause = POLL_SECONDS
    while not is_ready(ready.url):
        if process.poll() is not None:
            return
        time.sleep(pause)
        pause = min(2 * pause, longest_pause)
    print(ready, flush=True)  # noqa: T201


def is_ready(url: str) -> bool:
    """Whether `/readyz` says that the service is ready."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=60) as response:  # noqa: S310
            return bool(json.load(response)["ready"])
    except (OSError, ValueError):
        return False
