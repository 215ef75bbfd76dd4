"""Every model has a page that agrees with its file."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.server import ROOT
from training.artifact.card import ModelInfo
from training.errors import UserError
from training.export.pipeline import export_model
from training.export.request import ExportRequest
from training.imaging.preprocessing import Input, Pixels
from training.networks.classifier import Classifier
from training.report.model_card import find_model_files, render_model_page, write_model_page


@pytest.mark.parametrize("file", sorted(ROOT.glob("models/*/*/model.onnx")), ids=str)
def test_the_pages_of_bundled_models_are_up_to_date(file: Path) -> None:
    """`python -m training describe` writes them again."""
    page = (file.parent / "report" / "README.md").read_text()
    assert page == render_model_page(file.parents[1].name, file.parent)


@pytest.mark.slow
def test_the_page_of_an_export_without_metrics_says_why(
    lenet: Classifier, grays: Pixels, tmp_path: Path
) -> None:
    """It has the facts, the checks and the reason, and no plots."""
    wanted = Input("L", 28, 28, 28, mean=(0.0,), std=(0.3,), dark_on_light=True)
    about = ModelInfo(
        "digits", "lenet5", tuple("0123456789"), wanted, "multiclass", "CC0", {"origin": "a test"}
    )
    request = ExportRequest(
        about, lenet, "features.act2", grays, tmp_path, unmeasured="no pictures"
    )
    folder = export_model(request)
    page = (folder / "report" / "README.md").read_text()
    assert "gray pictures of 28 x 28" in page
    assert "maps of 10 x 10" in page
    assert "- How often it is right was not measured: no pictures." in page
    assert "| license | CC0 |" in page
    assert "## Measured" not in page
    assert [path.name for path in (folder / "report").iterdir()] == ["README.md"]


def test_the_page_stays_valid_when_a_version_is_copied(tmp_path: Path) -> None:
    """The page names no version, so it stays true after `cp -r models/x/1 models/x/2`."""
    copy = tmp_path / "lenet5" / "2"
    shutil.copytree(ROOT / "models" / "lenet5" / "1", copy)
    page = (copy / "report" / "README.md").read_text()
    assert page == write_model_page("lenet5", copy).read_text()


def test_a_file_without_a_card_is_rejected(tmp_path: Path) -> None:
    """A folder without models is rejected too."""
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(UserError, match="no readable card"):
        write_model_page("x", tmp_path)
    with pytest.raises(UserError, match="has no <name>"):
        list(find_model_files(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names and files")
def test_a_folder_whose_name_is_no_text_has_a_page_and_a_huge_file_none(tmp_path: Path) -> None:
    name = os.fsdecode(b"digits\xff")
    shutil.copytree(ROOT / "models" / "lenet5", tmp_path / name)
    page = write_model_page(name, tmp_path / name / "1")
    assert page.read_text("utf-8").startswith("# Model card: digits?")
    with (tmp_path / name / "1" / "model.onnx").open("r+b") as file:
        file.truncate(300 << 30)
    with pytest.raises(UserError, match="has 322122547200 bytes, but a model file has at most"):
        write_model_page(name, tmp_path / name / "1")
