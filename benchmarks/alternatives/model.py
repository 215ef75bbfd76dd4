"""The parts that all alternatives share: the model in onnxruntime and the decoding of pictures.

Resize, then centre crop, as torchvision's presets do. Knows no server.
"""

import io
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image


class Model:
    """The model in the file BENCH_MODEL, with BENCH_THREADS threads for one run."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["BENCH_THREADS"])
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(
            os.environ["BENCH_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        card = json.loads(self._session.get_modelmeta().custom_metadata_map["sightglass"])
        self._input: dict[str, Any] = card["input"]

    def decode(self, content: bytes) -> Any:
        """Decode a picture to (H, W, C) uint8."""
        wanted = self._input
        image: Image.Image = Image.open(io.BytesIO(content))
        if image.mode != wanted["mode"]:
            image = image.convert(wanted["mode"])
        size = wanted["width"], wanted["height"]
        if wanted["resize"]:
            scale = wanted["resize"] / min(image.size)
            resized = int(image.width * scale), int(image.height * scale)
            if resized != image.size:
                image = image.resize(resized, Image.Resampling.BILINEAR)
            left, top = round((resized[0] - size[0]) / 2), round((resized[1] - size[1]) / 2)
            image = image.crop((left, top, left + size[0], top + size[1]))
        elif image.size != size:
            image = image.resize(size, Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(size[1], size[0], len(wanted["mode"]))

    def predict(self, pixels: Sequence[Any]) -> list[dict[str, Any]]:
        """Return the most probable class of each decoded picture."""
        image = np.stack(pixels)  # (N, H, W, C) uint8
        [probabilities] = self._session.run(
            ["probabilities"], {"image": image, "target": np.zeros((len(image), 0), np.int64)}
        )
        tops = probabilities.argmax(axis=1).tolist()
        return [
            {"index": top, "probability": float(row[top])}
            for top, row in zip(tops, probabilities, strict=True)
        ]
