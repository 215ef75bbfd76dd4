"""A running server and its model repository."""

from pathlib import Path
from typing import Any

import httpx

from tests.server import Server, wait_until
from tests.service.quadrants_model import encode, light

PICTURE = encode(light(0))


class Tree:
    """A running server and the model repository that it polls."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def path(self, name: str, version: int = 1) -> Path:
        """Return the path of a version's file."""
        return self.folder / name / str(version) / "model.onnx"

    def see(self, name: str, version: int = 1) -> dict[str, Any] | None:
        """Return the entry of a version in `/models/<name>`."""
        response = self.server.client.get(f"/models/{name}")
        if response.status_code == 404:
            return None
        versions: list[dict[str, Any]] = response.json()["versions"]
        return next((v for v in versions if v["version"] == str(version)), None)

    def wait(self, state: str | None, name: str, version: int = 1) -> dict[str, Any]:
        """Wait until the version has the state, and return its entry. None: it is not listed."""

        def is_there() -> bool:
            seen = self.see(name, version)
            return (seen["state"] if seen else None) == state

        wait_until(is_there, describe=self.server.read_log)
        return self.see(name, version) or {}

    def predict(self, **options: str) -> httpx.Response:
        """Predict an image whose top left quarter is bright."""
        return self.server.client.post("/predict", content=PICTURE, params=options)

    def wait_event(self, model: str, event: str) -> dict[str, Any]:
        """Wait for the one log line of this event about a model, such as `name/1`."""
        [found] = self.server.wait_events(
            lambda line: line.get("model") == model and line["event"] == event
        )
        return found
