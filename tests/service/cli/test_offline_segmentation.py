"""`explain` without a server, with a model that segments."""

from pathlib import Path

import pytest

from service.api.options import validate_options
from service.cli.errors import CommandError
from service.cli.offline import describe_explanation, explain
from service.parameters import ExplainOptions
from service.settings import Settings, read_settings
from tests.service import quadrants_model
from tests.service.mask_model import BLUE, RED, paint, write_model
from tests.service.quadrants_model import encode

PNG = "image/png"


def make_settings(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> Settings:
    monkeypatch.setenv("SIGHTGLASS_MODELS_DIR", str(models_dir))
    return read_settings()


def test_a_region_is_explained_and_the_mean_probabilities_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "cells" / "1" / "model.onnx")
    picture = tmp_path / "picture.png"
    boxes = ((RED, (4, 4, 20, 12)), (BLUE, (18, 10, 30, 23)))
    picture.write_bytes(encode(paint(*boxes, size=(32, 24))))
    settings = make_settings(monkeypatch, tmp_path)
    for given, target in (({"point": "5,5"}, "red (9"), ({"box": "0,0,3,3", "of": "red"}, "red (")):
        options = validate_options(ExplainOptions, given)
        text = describe_explanation(explain(picture, options, PNG, settings), tmp_path / "why.png")
        assert text.startswith("cells/1: blue (9")
        assert f"the evidence for {target}" in text
    assert text.endswith("the evidence for red (no pixels)")


def test_a_model_that_classifies_takes_no_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quadrants_model.write_model(tmp_path / "quadrants" / "1" / "model.onnx")
    picture = tmp_path / "picture.png"
    picture.write_bytes(encode(paint(size=(32, 32))))
    options = validate_options(ExplainOptions, {"point": "5,5"})
    with pytest.raises(CommandError, match="'point' is for models that segment"):
        explain(picture, options, PNG, make_settings(monkeypatch, tmp_path))
