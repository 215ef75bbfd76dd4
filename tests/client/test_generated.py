"""A client that a stock generator makes of our OpenAPI document calls the service."""

import base64
import importlib
import io
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from PIL import Image

from tests.contract.artifacts import wait_loaded
from tests.server import Server
from tests.service import mask_model, quadrants_model
from tests.service.quadrants_model import encode, light
from tests.warm_process import start_worker

GENERATOR = "openapi-python-client==0.29.1"
RUN_TOOL = (sys.executable, "-m", "uv", "tool", "run", "--quiet", "--from", GENERATOR)
NAME = "generated_sightglass"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`cells` segments, `quadrants` classifies and is the default."""
    folder = tmp_path_factory.mktemp("generated")
    models = folder / "models"
    mask_model.write_model(models / "cells" / "1" / "model.onnx")
    quadrants_model.write_model(models / "quadrants" / "1" / "model.onnx")
    with start_worker(models, folder, default_model="quadrants") as server:
        wait_loaded(server)
        yield server


@pytest.fixture(scope="module")
def generated(running: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package that the generator writes."""
    folder = tmp_path_factory.mktemp("client")
    found = subprocess.run(
        [*RUN_TOOL, "openapi-python-client", "--version"], capture_output=True, text=True
    )
    if found.returncode:
        pytest.skip(f"{GENERATOR} cannot be had: {found.stderr.strip()[-200:]}")
    document = folder / "openapi.json"
    document.write_bytes(running.client.get("/openapi.json").content)
    command = [*RUN_TOOL, "openapi-python-client", "generate", "--meta", "none"]
    subprocess.run(
        [*command, "--path", str(document), "--output-path", str(folder / NAME)],
        check=True,
        capture_output=True,
    )
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module(NAME)
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
            del sys.modules[name]


def load(name: str) -> Any:
    return importlib.import_module(f"{NAME}.{name}")


def test_it_predicts_from_a_form_json_and_the_plain_bytes(
    running: Server, generated: ModuleType
) -> None:
    predict, models, types = load("api.pictures.predict"), load("models"), load("types")
    content = encode(light(1))
    bodies = (
        models.PredictFilesBody(image=types.File(payload=io.BytesIO(content)), top_k=2),
        models.PredictJsonBody.from_dict({"image": to_base64(content), "top_k": 2}),
        types.File(payload=io.BytesIO(content)),
    )
    for body in bodies:
        answer = predict.sync(client=generated.Client(running.url), body=body)
        assert isinstance(answer, models.Answer), answer
        assert answer.model == "quadrants"
        assert answer.predictions[0].label == "top right"


def test_it_reads_classes_explanations_and_errors(running: Server, generated: ModuleType) -> None:
    models, types = load("models"), load("types")
    client = generated.Client(running.url, headers={"accept": "application/json"})

    def call(name: str, **options: Any) -> Any:
        body = types.File(payload=io.BytesIO(encode(light(1))))
        return load(f"api.pictures.{name}").sync(client=client, body=body, **options)

    masked = call("predict", model="cells")
    assert isinstance(masked, models.SegmentationAnswer)
    assert sum(found.share for found in masked.classes) == pytest.approx(1)
    [explanation] = call("gradcam", target=["top left"]).explanations
    assert explanation.target.label == "top left"
    assert len(explanation.cam) == explanation.shape[0]
    refused = call("predict", model="nobody")
    assert isinstance(refused, models.ErrorAnswer)
    assert refused.error.code == "model_not_found"


def test_it_gets_the_bytes_of_a_mask(running: Server, generated: ModuleType) -> None:
    models, types = load("models"), load("types")
    image = types.File(payload=io.BytesIO(encode(light(1))))
    body = models.SegmentFilesBody(image=image, model="cells")
    call = load("api.pictures.segment").sync_detailed
    answer = call(client=generated.Client(running.url), body=body)
    assert answer.status_code == 200
    with Image.open(io.BytesIO(answer.content)) as drawn:
        assert drawn.format == "PNG"


def test_it_lists_the_models(running: Server, generated: ModuleType) -> None:
    listed = load("api.models_and_status.models").sync(client=generated.Client(running.url))
    assert {entry.name for entry in listed.models} == {"cells", "quadrants"}


def to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
