"""The README is short, and its figures are right."""

import json
from pathlib import Path
from typing import Any

import onnx

from tests.server import ROOT

MAX_LINES = 100
README = (ROOT / "README.md").read_text()


def read_card(path: Path) -> dict[str, Any]:
    """What a model's file says about itself."""
    model = onnx.load(str(path))
    return dict(json.loads(next(p.value for p in model.metadata_props if p.key == "sightglass")))


def test_it_is_read_in_two_minutes() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_every_bundled_model_is_listed_with_its_own_accuracy() -> None:
    table = README.partition("<!-- models -->")[2].partition("<!-- /models -->")[0]
    rows = {row.split("`")[1]: row for row in table.strip().splitlines()}
    folders = {path.parents[1].name: path for path in ROOT.glob("models/*/*/model.onnx")}
    assert set(rows) == set(folders)
    for name, path in folders.items():
        if metrics := read_card(path)["metrics"]:
            right = metrics["pixel_accuracy" if "pixel_accuracy" in metrics else "accuracy"]
            assert f"{right:.2%}".replace("%", " %") in rows[name]
