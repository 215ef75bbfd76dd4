"""A plain BentoML service: a batchable API with a PIL parameter, and onnxruntime.

It has the same artifact, deadline and batch size as Sightglass's defaults. The rest is stock.
"""

import os
from typing import Any

import bentoml
import numpy as np
import onnxruntime as ort
from PIL import Image

MODEL_VARIABLE = "STOCK_MODEL"  # the path of an artifact
SIDE, SHORTER = 224, 256  # sides of the bundled model for photographs


@bentoml.service(workers=1, traffic={"timeout": 10})
class Stock:
    """A service with one model."""

    def __init__(self) -> None:
        self.session = ort.InferenceSession(os.environ[MODEL_VARIABLE])

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=10_000)  # type: ignore[untyped-decorator]
    def predict(self, images: list[Image.Image]) -> list[dict[str, Any]]:
        """Return the most probable class of each picture."""
        image = np.stack([shape(picture) for picture in images])  # (N, H, W, C) uint8
        target = np.empty((len(images), 0), np.int64)  # (N, T)
        [probabilities] = self.session.run(["probabilities"], {"image": image, "target": target})
        return [
            {"index": int(row.argmax()), "probability": float(row.max())} for row in probabilities
        ]


def shape(picture: Image.Image) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Scale the shorter side to 256, and cut the central 224 x 224."""
    scale = SHORTER / min(picture.size)
    size = (round(picture.width * scale), round(picture.height * scale))
    resized = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    left, top = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)))
