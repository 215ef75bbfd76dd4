"""The bundled models know the examples in their own cards."""

import base64
import csv
import json
from pathlib import Path

import onnx
import pytest

from service.api.options import validate_options
from service.cli.folder_report import explain_folder
from service.parameters import ExplainOptions
from service.settings import read_settings
from tests.server import ROOT

MODELS = ["lenet5/1", "lenet5-relu/1", "lenet5-relu/2", "resnet18/1"]


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_model_gives_its_examples_the_labels_that_its_card_says(
    model: str, tmp_path: Path
) -> None:
    proto = onnx.load(ROOT / "models" / model / "model.onnx")
    examples = json.loads(proto.metadata_props[0].value)["examples"]
    for number, example in enumerate(examples):
        (tmp_path / f"{number}.png").write_bytes(base64.b64decode(example["image"]))
    name, version = model.split("/")
    (tmp_path / "models" / name).mkdir(parents=True)
    (tmp_path / "models" / name / version).symlink_to(ROOT / "models" / model)
    table = tmp_path / "table.csv"
    changes = {"models_dir": tmp_path / "models", "default_model": name}
    options = validate_options(ExplainOptions, {})
    settings = read_settings().model_copy(update=changes)
    assert explain_folder(tmp_path, options, (None, table), settings) == (3, 0)
    with table.open(newline="", encoding="utf-8") as file:
        found = [row["class"] for row in csv.DictReader(file)]
    assert found == [example["label"] for example in examples]
