"""A network that was trained elsewhere is imported; an invalid request is rejected."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from training.data.decoded import store
from training.errors import UserError
from training.export.import_network import ImportRequest, import_network
from training.export.labels import read_labels
from training.networks.timm_zoo import build_timm

MODULE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        conv = nn.Conv2d(3, 8, 3, padding=1)
        self.features = nn.Sequential(conv, nn.BatchNorm2d(8), nn.ReLU(True))
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))

def build():
    return Net()
"""


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ImportRequest]:
    """A request for a user's own network, with its weights and labels in a folder."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "labels.txt").write_text("Katze\n犬\n\nemu\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store, "CACHE_FOLDER", tmp_path / "cache")
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    namespace: dict[str, Callable[[], torch.nn.Module]] = {}
    exec(MODULE, namespace)  # the same network, for its weights
    torch.manual_seed(0)
    torch.save(namespace["build"]().state_dict(), tmp_path / "w.pt")

    def request(**changes: object) -> ImportRequest:
        fields: dict[str, object] = {
            "architecture": "mine:build", "weights": "w.pt", "labels": tmp_path / "labels.txt",
            "size": 24, "resize": None, "mean": None, "std": None, "task": "multiclass",
            "pictures": None, "origin": "", "license": "MIT", "to": tmp_path / "tree",
            "name": None, "version": None, "layer": "features", "precision": "fp32",
        }  # fmt: skip
        return ImportRequest(**(fields | changes))  # type: ignore[arg-type]

    return request


def card(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads(
        onnx.load(folder / "model.onnx").metadata_props[0].value
    )
    return content


def test_a_users_network_is_exported(ask: Callable[..., ImportRequest]) -> None:
    """It has the function's name and the user's labels. The card says why nothing was measured."""
    folder = import_network(ask())
    assert folder.parent.name == "build"
    found = card(folder)
    assert found["labels"] == ["Katze", "犬", "emu"]
    assert found["metrics"] is None
    assert "--pictures" in str(found["metrics_reason"])
    assert found["license"] == "MIT"
    proto = onnx.load(folder / "model.onnx")
    assert (proto.domain, proto.model_version) == ("sightglass", 1)
    assert "3 labels: Katze, 犬, emu." in proto.doc_string
    assert "License: MIT." in proto.doc_string


@pytest.mark.parametrize(
    ("given", "expected"), [("bicubic", "bicubic"), ("nearest", "nearest"), (None, "bilinear")]
)
def test_the_card_has_the_interpolation(
    ask: Callable[..., ImportRequest], given: str | None, expected: str
) -> None:
    """It is the user's; without one it is the architecture's."""
    input_spec = card(import_network(ask(interpolation=given)))["input"]
    assert isinstance(input_spec, dict)
    assert input_spec["interpolation"] == expected


def test_hirescam_is_gradcam_where_both_are_the_same_map(
    ask: Callable[..., ImportRequest], capsys: pytest.CaptureFixture[str]
) -> None:
    """An average and a linear layer follow: the card says which method it is, and why."""
    gradcam = card(import_network(ask(method="hirescam")))["gradcam"]
    assert isinstance(gradcam, dict)
    assert gradcam["method"] == "gradcam"
    assert "HiResCAM is Grad-CAM here" in gradcam["method_reason"]
    assert gradcam["method_reason"] in capsys.readouterr().out


def test_metrics_are_measured_on_the_given_pictures(
    ask: Callable[..., ImportRequest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Folders name the labels. Labels without pictures are left out. Chance is a doubt."""
    rng = np.random.default_rng(0)
    for label in ("Katze", "犬"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(4):
            pixels = rng.integers(0, 256, (30, 30, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"{i}.png")
    folder = import_network(ask(pictures=tmp_path / "pictures"))
    metrics = card(folder)["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["pictures"] == 8
    assert set(metrics["per_class"]) == {"Katze", "犬"}
    assert "not clearly more than chance" in metrics["doubts"][0]  # it was never trained
    said = capsys.readouterr().out
    assert "always the most frequent label: 50.00%" in said
    assert f"Doubts: {metrics['doubts'][0]}" in said
    page = (folder / "report" / "README.md").read_text()
    first = page.split("## Know before you use it\n\n")[1].splitlines()
    assert first[0].startswith("- Accuracy ")
    assert first[1] == f"- Doubt: {metrics['doubts'][0]}."


@pytest.mark.slow
def test_int8_is_calibrated_on_every_other_picture_and_measured_on_the_rest(
    ask: Callable[..., ImportRequest], tmp_path: Path
) -> None:
    """Of eight pictures, four calibrate and four are measured."""
    for label, colour in (("Katze", (250, 20, 20)), ("犬", (20, 20, 250))):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for i in range(4):
            image = Image.new("RGB", (30, 30), colour)
            image.putpixel((i, i), (255, 255, 255))
            image.save(tmp_path / "pictures" / label / f"{i}.png")
    found = card(import_network(ask(pictures=tmp_path / "pictures", precision="int8", maps=0)))
    metrics, checks = found["metrics"], found["checks"]
    assert isinstance(metrics, dict)
    assert isinstance(checks, dict)
    assert metrics["pictures"] == checks["precision"]["pictures"] == 4


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architecture": "mine:nothere"}, "mine:nothere cannot be imported"),
        ({"architecture": "nothere:build"}, "nothere:build cannot be imported"),
        ({"labels": None}, "file of labels with --labels"),
        ({"layer": "neck"}, "There is no layer 'neck'"),
        ({"layer": "head"}, "neither a map nor tokens"),
        ({"layer": None}, "name one with --layer"),
        ({"method": "auto"}, "--method auto needs labelled pictures"),
        ({"mean": [0.5], "std": [0.5, 0.5]}, "--mean and --std must both have one number"),
        ({"mean": [0.5], "std": [0.5]}, "does not run on pictures of 24 x 24"),
    ],
)
def test_invalid_requests_are_rejected_with_one_sentence(
    ask: Callable[..., ImportRequest], changes: dict[str, object], sentence: str
) -> None:
    """Nothing is written."""
    request = ask(**changes)
    with pytest.raises(UserError, match=sentence):
        import_network(request)
    assert not request.to.exists()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("a\nb\na\n", "label 'a' more than once"), ("a\nb\n", "3 outputs, but there are 2 labels")],
)
def test_labels_that_do_not_fit_are_rejected(
    ask: Callable[..., ImportRequest], tmp_path: Path, text: str, sentence: str
) -> None:
    """A label appears twice, or the number of labels is not the number of outputs."""
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(UserError, match=sentence):
        import_network(ask())


def test_a_table_of_labels_is_sorted_by_index(tmp_path: Path) -> None:
    """Columns are index, id and label. Rows may be in any order, after a header."""
    (tmp_path / "l.tsv").write_text("index\twnid\tname\n1\tn2\tdog\n0\tn1\tcat, big\n")
    assert read_labels(tmp_path / "l.tsv") == ("cat, big", "dog")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("header", ["", "index\tname\r\n"])
def test_a_byte_order_mark_is_no_part_of_a_label(
    tmp_path: Path, encoding: str, header: str
) -> None:
    """Editors on Windows write one, and end lines in their own way."""
    lines = ["0\tForêt ", "1\tRivière"] if header else ["Forêt ", "Rivière", ""]
    (tmp_path / "l.txt").write_bytes((header + "\r\n".join(lines)).encode(encoding))
    assert read_labels(tmp_path / "l.txt") == ("Forêt", "Rivière")


@pytest.mark.parametrize("content", ["Forêt".encode("cp1252"), "a\nb".encode("utf-16-le")])
def test_labels_in_another_encoding_are_refused(tmp_path: Path, content: bytes) -> None:
    """UTF-16 is only known by its byte-order mark."""
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(UserError, match="is not a file of labels in UTF-8"):
        read_labels(tmp_path / "l.txt")


def test_timm_builds_networks_if_it_is_installed() -> None:
    """Without timm, one sentence says that it is missing."""
    try:
        import timm  # noqa: F401
    except ImportError:
        with pytest.raises(UserError, match="timm is not installed"):
            build_timm("resnet10t", 3, {})
    else:
        assert build_timm("resnet10t", 3, {})(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
