"""A server with models that segment, and with one that classifies."""

from collections.abc import Iterator

import pytest

from tests.contract.artifacts import wait_loaded
from tests.server import Server
from tests.service import mask_model, quadrants_model
from tests.warm_process import start_worker


@pytest.fixture(scope="session")
def segmenting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`cells` sees the whole picture, `cropped` its middle. `quadrants` classifies."""
    folder = tmp_path_factory.mktemp("segmenting")
    models = folder / "models"
    mask_model.write_model(models / "cells" / "1" / "model.onnx")
    spec = mask_model.make_card(32, 32)["input"] | {"resize": 32, "crop": "center"}
    mask_model.write_model(models / "cropped" / "1" / "model.onnx", width=32, height=32, input=spec)
    quadrants_model.write_model(models / "quadrants" / "1" / "model.onnx")
    with start_worker(models, folder) as running:
        wait_loaded(running)
        yield running
