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

MODELS = ["lenet5/1", "lenet5-relu/1", "lenet5-relu/2", "resnet18/2"]


PHOTOGRAPHS = {
    "a dog and a cat": "bull mastiff",
    "a parrot": "macaw",
    "a dragonfly": "dragonfly",
    "a red panda": "lesser panda",
    "a sunflower, called a daisy": "daisy",
    "an owl, called a grouse": "ruffed grouse",
}


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_a_model_gives_its_examples_the_labels_that_its_card_says(
    model: str, tmp_path: Path
) -> None:
    examples = read_examples(model)
    assert classify(model, examples, tmp_path) == [example["label"] for example in examples]


@pytest.mark.slow
def test_the_model_for_photographs_answers_as_the_titles_of_its_examples_say(
    tmp_path: Path,
) -> None:
    """Two of them are mistakes, which the documents explain by their maps."""
    examples = read_examples("efficientnet_lite0/1")
    assert [example["title"] for example in examples] == list(PHOTOGRAPHS)
    assert classify("efficientnet_lite0/1", examples, tmp_path) == list(PHOTOGRAPHS.values())


def read_examples(model: str) -> list[dict[str, str]]:
    """The examples in the card of a bundled model."""
    proto = onnx.load(ROOT / "models" / model / "model.onnx")
    examples: list[dict[str, str]] = json.loads(proto.metadata_props[0].value)["examples"]
    return examples


def classify(model: str, examples: list[dict[str, str]], folder: Path) -> list[str]:
    """What the model takes its examples for."""
    for number, example in enumerate(examples):
        (folder / f"{number}.png").write_bytes(base64.b64decode(example["image"]))
    name, version = model.split("/")
    (folder / "models" / name).mkdir(parents=True)
    (folder / "models" / name / version).symlink_to(ROOT / "models" / model)
    table = folder / "table.csv"
    changes = {"models_dir": folder / "models", "default_model": name}
    options = validate_options(ExplainOptions, {})
    settings = read_settings().model_copy(update=changes)
    assert explain_folder(folder, options, (None, table), settings) == (len(examples), 0)
    with table.open(newline="", encoding="utf-8") as file:
        return [row["class"] for row in csv.DictReader(file)]
