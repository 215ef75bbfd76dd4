"""Requests to the models that segment, and what must be answered, computed without the service."""

from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.server import Server
from tests.service.mask_model import Expected, answer
from tests.service.quadrants_model import encode

SIDE = 32  # of the input of `cropped`
JSON = {"accept": "application/json"}
Bools = NDArray[np.bool_]


def post(server: Server, call: str, image: Image.Image, **options: Any) -> httpx.Response:
    """Send a picture and parameters."""
    headers = options.pop("headers", JSON if call in ("/predict", "/gradcam") else {})
    return server.client.post(call, content=encode(image), params=options, headers=headers)


def ask(server: Server, call: str, image: Image.Image, **options: Any) -> dict[str, Any]:
    """Return the answer in JSON."""
    response = post(server, call, image, **options)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def explain(server: Server, image: Image.Image, **options: Any) -> dict[str, Any]:
    """Return one explanation."""
    [explanation] = ask(server, "/gradcam", image, **options)["explanations"]
    found: dict[str, Any] = explanation
    return found


def refuse(server: Server, call: str, image: Image.Image, **options: Any) -> tuple[int, str]:
    """Return the status and the sentence of an error."""
    response = post(server, call, image, **options)
    return response.status_code, response.json()["error"]["message"]


def expect(image: Image.Image, size: tuple[int, int] = (32, 24)) -> Expected:
    """What the model answers for the whole picture, resized to its input."""
    resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    return answer(np.asarray(resized))


def select(box: tuple[int, int, int, int], size: tuple[int, int] = (32, 24)) -> Bools:
    """The pixels of a box of the model's input, (H, W)."""
    left, top, right, bottom = box
    selected = np.zeros(size[::-1], bool)
    selected[top:bottom, left:right] = True
    return selected
