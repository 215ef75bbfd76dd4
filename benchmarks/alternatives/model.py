"""The parts that all alternatives share: the model in its engine and the decoding of pictures.

Resize, then centre crop, as torchvision's presets do. Knows no server.
"""

import io
import json
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from PIL import Image

Run = Callable[[Any], Any]  # from images (N, H, W, C) to probabilities (N, K)


class Model:
    """The model in the file BENCH_MODEL, in BENCH_ENGINE, with BENCH_THREADS threads for a run."""

    def __init__(self) -> None:
        path, threads = os.environ["BENCH_MODEL"], int(os.environ["BENCH_THREADS"])
        session = open_onnxruntime(path, threads)
        card = json.loads(session.get_modelmeta().custom_metadata_map["sightglass"])
        self._input: dict[str, Any] = card["input"]
        if os.environ["BENCH_ENGINE"] == "openvino":
            self._run = compile_openvino(path, threads)
        else:
            self._run = lambda image: session.run(["probabilities"], make_feed(image))[0]

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
        probabilities = self._run(image)
        tops = probabilities.argmax(axis=1).tolist()
        return [
            {"index": top, "probability": float(row[top])}
            for top, row in zip(tops, probabilities, strict=True)
        ]


def open_onnxruntime(path: str, threads: int) -> ort.InferenceSession:
    """Open a session whose threads do not spin."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def compile_openvino(path: str, threads: int) -> Run:
    """Compile the model in bfloat16, as its documentation recommends; each thread has a request."""
    import openvino  # only in the environment of this alternative

    hints = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", hints)
    kept = threading.local()

    def run(image: Any) -> Any:
        if not hasattr(kept, "request"):
            kept.request = compiled.create_infer_request()
        return kept.request.infer(make_feed(image), share_inputs=True)["probabilities"]

    return run


def make_feed(image: Any) -> dict[str, Any]:
    """The inputs for images (N, H, W, C) uint8 without maps."""
    return {"image": image, "target": np.zeros((len(image), 0), np.int64)}
