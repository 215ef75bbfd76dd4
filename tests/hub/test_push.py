"""A version of a model is published with its card as Hugging Face reads it."""

import os
import sys
from pathlib import Path

import pytest
import yaml

from hub.errors import HubError
from hub.push import push
from tests.hub.places import HubServer, serving
from tests.hub.test_pull import run
from tests.server import ROOT

MODEL = ROOT / "models" / "lenet5" / "1"


def test_the_file_its_card_and_its_pictures_are_published(tmp_path: Path) -> None:
    hub = HubServer({})
    with serving(hub):
        ran = run(
            *(tmp_path, "push", str(MODEL), "hf://someone/digits@v2", "--private"),
            HF_ENDPOINT=hub.url,
            HF_TOKEN="hf_secret",
        )
    assert ran.returncode == 0, ran.stderr
    assert "/commit/" in ran.stdout
    assert hub.created[0]["visibility"] == "private"
    assert hub.branch == "v2"
    assert hub.committed["model.onnx"] == (MODEL / "model.onnx").read_bytes()
    assert "confusion.png" in hub.committed
    _, front, page = hub.committed["README.md"].decode().split("---\n", 2)
    card = yaml.safe_load(front)
    assert card["license"] == "apache-2.0"
    assert (card["pipeline_tag"], card["library_name"]) == ("image-classification", "onnx")
    [results] = card["model-index"][0]["results"]
    assert results["dataset"]["type"] == "mnist"
    assert {"type": "accuracy", "value": 0.9941} in results["metrics"]
    assert "sightglass pull hf://someone/digits@v2 --name lenet5" in page
    assert "![Confusion matrix](confusion.png)" in page


def test_a_signature_is_published_with_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "digits" / "1"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes((MODEL / "model.onnx").read_bytes())
    (folder / "model.sig").write_bytes(b"signed")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub = HubServer({})
    with serving(hub):
        ran = run(tmp_path, "push", str(folder), "hf://someone/digits", HF_ENDPOINT=hub.url)
    assert ran.returncode == 0, ran.stderr
    assert hub.committed["model.sig"] == b"signed"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_folder_whose_name_is_no_text_is_published(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"digits\xff") / "1"
    (folder / "report").mkdir(parents=True)
    (folder / "model.onnx").write_bytes((MODEL / "model.onnx").read_bytes())
    (folder / "report" / os.fsdecode(b"a\xff.png")).write_bytes(b"picture")
    hub = HubServer({})
    with serving(hub):
        target = ("push", str(folder), "hf://someone/digits")
        ran = run(tmp_path, *target, HF_ENDPOINT=hub.url, HF_TOKEN="hf_secret")
    assert ran.returncode == 0, ran.stderr
    assert "--name digits\ufffd" in hub.committed["README.md"].decode()
    assert hub.committed["a\ufffd.png"] == b"picture"


@pytest.mark.parametrize(
    ("folder", "target", "sentence"),
    [
        (MODEL, "s3://bucket", "The target must be hf://owner/repository"),
        (MODEL, "hf://someone/birds/file.onnx", "The target must be hf://owner/repository"),
        (ROOT / "docs", "hf://someone/birds", r"model\.onnx can't be read"),
    ],
)
def test_a_target_that_is_none_and_a_folder_without_a_model_are_refused(
    folder: Path, target: str, sentence: str
) -> None:
    with pytest.raises(HubError, match=sentence):
        push(folder, target, False)
