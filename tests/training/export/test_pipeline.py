"""An export stores a whole version that describes itself, or nothing if a check fails."""

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from training.artifact import parity
from training.artifact.card import ModelInfo
from training.artifact.golden import encode_png, pad_to_wider_image
from training.artifact.parity import check_signature
from training.data.datasets import Dataset
from training.errors import CheckError, UserError
from training.evaluate.metrics import predict_split
from training.export.pipeline import export_model
from training.export.request import ExportRequest
from training.graph.session import open_session, run_for_top1
from training.imaging.preprocessing import GraphRunner, Input, Pixels, load_pixels
from training.networks.classifier import Classifier


def about(model: Classifier, name: str = "digits") -> ModelInfo:
    assert isinstance(model, Classifier)
    labels = tuple("0123456789")
    wanted = Input("L", 28, 28, 28, mean=(0.0,), std=(0.3,), dark_on_light=True)
    return ModelInfo(name, "lenet5", labels, wanted, "multiclass", "Apache-2.0", {"seed": 0})


def read(folder: Path) -> tuple[onnx.ModelProto, dict[str, Any]]:
    proto = onnx.load(folder / "model.onnx")
    content = {entry.key: entry.value for entry in proto.metadata_props}
    return proto, json.loads(content["sightglass"])


def predict(run: GraphRunner, image: Pixels) -> NDArray[np.float32]:
    return run_for_top1(run, image, 0)[1]


def make(model: Classifier, samples: Pixels, tree: Path, **options: Any) -> Path:
    options.setdefault("name", "digits")
    name = options.pop("name")
    request = ExportRequest(about(model, name), model, "features.act2", samples, tree, **options)
    return export_model(request)


@pytest.mark.slow
def test_versions_count_up_and_a_given_version_is_replaced(
    lenet: Classifier, grays: Pixels, tmp_path: Path
) -> None:
    """No temporary folder is left."""
    folders = [make(lenet, grays, tmp_path) for _ in range(2)]
    assert [folder.name for folder in folders] == ["1", "2"]
    before = (folders[0] / "model.onnx").stat().st_ino
    assert make(lenet, grays, tmp_path, version=1) == folders[0]
    assert (folders[0] / "model.onnx").stat().st_ino != before
    assert sorted(p.name for p in (tmp_path / "digits").iterdir()) == ["1", "2"]
    assert [read(folder)[0].model_version for folder in folders] == [1, 2]


@pytest.mark.slow
def test_two_samples_are_enough(lenet: Classifier, grays: Pixels, tmp_path: Path) -> None:
    """They are repeated to check batches of seven."""
    _, found = read(make(lenet, grays[:2], tmp_path))
    assert [7, 3] in found["checks"]["cases"]


def test_a_failed_check_writes_nothing(
    lenet: Classifier, grays: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even the model's folder is made."""

    def reject(deviations: parity.Deviations) -> None:
        raise CheckError(f"cam deviates by {deviations.worst['cam']}")

    monkeypatch.setattr(parity, "reject_deviations", reject)
    with pytest.raises(UserError, match="cam deviates"):
        make(lenet, grays, tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.parametrize("name", ["Digits", "../up", "", "a/b", "-x"])
def test_an_invalid_name_is_rejected(
    lenet: Classifier, grays: Pixels, tmp_path: Path, name: str
) -> None:
    """It is rejected before anything is computed."""
    with pytest.raises(UserError, match="is not a valid model name"):
        make(lenet, grays, tmp_path, name=name)


def test_the_card_has_every_field(
    lenet: Classifier, grays: Pixels, strokes: Dataset, tmp_path: Path
) -> None:
    """Metrics are measured through the file, and the report is next to it."""
    folder = make(lenet, grays, tmp_path, test=strokes.splits["test"])
    _, found = read(folder)
    assert {
        "schema": 1, "task": "multiclass", "labels": list("0123456789"), "license": "Apache-2.0",
        "input": {
            "mode": "L", "height": 28, "width": 28, "resize": 28,
            "crop": "center", "interpolation": "bilinear",
        },
    }.items() <= found.items()  # fmt: skip
    assert {"layer": "features.act2", "method": "gradcam", "compiler": "backward"}.items() <= (
        found["gradcam"].items()
    )
    assert found["gradcam"]["cost"]["ratio"] > 0
    assert found["metrics"]["pictures"] == 32
    assert found["checks"]["test_correct_onnx"] == found["metrics"]["correct"]
    assert {"created", "tools", "training"} <= found.keys()
    assert found["confidence"]["measured_on"] == "the test split"
    assert "too few" in found["confidence"]["unfamiliar"]["reason"]
    assert (folder / "report" / "README.md").exists()


def test_the_card_names_the_method(lenet: Classifier, grays: Pixels, tmp_path: Path) -> None:
    """Golden tests and page are of that method, too."""
    folder = make(lenet, grays, tmp_path, method="hirescam")
    proto, found = read(folder)
    assert found["gradcam"]["method"] == "hirescam"
    assert "method_reason" not in found["gradcam"]
    assert found["checks"]["cam"] < 1e-5
    assert "maps of 10 x 10 by HiResCAM" in (folder / "report" / "README.md").read_text()
    check_signature(proto)


def test_without_test_pictures_the_card_says_why(
    lenet: Classifier, grays: Pixels, tmp_path: Path
) -> None:
    """`metrics` is null and `metrics_reason` says why."""
    _, found = read(make(lenet, grays, tmp_path, unmeasured="no pictures at hand"))
    assert found["metrics"] is None
    assert found["metrics_reason"] == "no pictures at hand"


def test_golden_tests_are_reproduced_from_the_file_alone(
    lenet: Classifier, grays: Pixels, tmp_path: Path
) -> None:
    """Decoding, resize and crop run again. Probabilities and maps must be the same."""
    import base64

    proto, found = read(make(lenet, grays, tmp_path))
    run = open_session(proto)
    wanted = Input(**found["input"])
    assert len(found["golden"]) == 2
    for probe in found["golden"]:
        content = base64.b64decode(probe["image"])
        assert len(content) < 20_000
        image = load_pixels(content, wanted)[None]
        _, probabilities, cam = run(image, np.array([[probe["target"]]]))
        assert np.allclose(probabilities[0], probe["probabilities"], atol=1e-6)
        assert np.allclose(cam[0, 0], probe["cam"], atol=1e-6)
        assert probe["label"] == found["labels"][int(probabilities[0].argmax())]


@pytest.mark.parametrize(
    "wanted", [Input(), Input("L", 28, 28, 28), Input("RGB", 20, 30, None, None)]
)
def test_golden_pictures_test_resize_crop_and_rotation(wanted: Input) -> None:
    """The first has another size and shape than the input. The second is rotated by EXIF."""
    shape = (wanted.height, wanted.width, wanted.channels)
    first = pad_to_wider_image(np.zeros(shape, np.uint8), wanted, turned=False)
    assert first.size not in ((wanted.width, wanted.height), (wanted.resize, wanted.resize))
    assert first.width > first.height
    second = pad_to_wider_image(np.zeros(shape, np.uint8), wanted, turned=True)
    for framed, rotated in ((first, False), (second, True)):
        content = encode_png(framed, rotated)
        assert load_pixels(content, wanted).shape == shape


@pytest.mark.parametrize("name", ["lenet5", "lenet5-relu"])
def test_the_bundled_digit_models_are_as_accurate_as_their_cards_say(
    data_dir: Path, name: str
) -> None:
    """The file classifies the same number of 10,000 test digits correctly, at least 99.2 %."""
    from training.data.datasets import load_mnist
    from training.data.splits import SplitRules

    assert data_dir.is_dir()
    versions = sorted(Path("models", name).iterdir(), key=lambda path: int(path.name))
    for folder in versions:
        proto, found = read(folder)
        test = load_mnist(SplitRules(0.1, 0, 0)).splits["test"]
        run = open_session(proto)
        p = predict_split(functools.partial(predict, run), test)
        assert int((p.argmax(1) == test.labels).sum()) == found["metrics"]["correct"] >= 9_920


def test_a_one_by_one_map_is_rejected(lenet: Classifier, grays: Pixels, tmp_path: Path) -> None:
    """One sentence says why, and nothing is written."""
    model = Classifier(replace(about(lenet).input), torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 28), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4, 10)
    ))  # fmt: skip
    with pytest.raises(UserError, match="1x1"):
        export_model(ExportRequest(about(lenet), model, "1", grays, tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()


class Undecided(torch.nn.Module):
    """Branches on the values of the picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


class Untranslated(torch.nn.Module):
    """Uses a function that ONNX does not have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x.abs() + 1).lgamma()


class Counting(torch.nn.Module):
    """Makes the number of pictures a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + x.new_ones(int(x.shape[0]), 1, 1, 1)


@pytest.mark.parametrize(
    ("between", "said"),
    [
        (Untranslated(), "does not support 'lgamma'.*at '0'.*No file was written"),
        (Counting(), "fixes the number of pictures.* use x.shape.*No file was written"),
        (Undecided(), "the values of a picture.* No file was written"),
    ],
    ids=["operation", "size", "branch"],
)
def test_a_network_that_cannot_be_exported_is_rejected(
    lenet: Classifier, grays: Pixels, tmp_path: Path, between: torch.nn.Module, said: str
) -> None:
    """One sentence names the cause, and nothing is written."""
    network = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 4, 5, 3), between, torch.nn.Conv2d(4, 4, 3)),
        *(torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()),
        torch.nn.Linear(4, 10),
    )
    model = Classifier(about(lenet).input, network)
    with pytest.raises(UserError, match=said):
        export_model(ExportRequest(about(lenet), model, "0", grays, tmp_path / "tree"))
    assert not (tmp_path / "tree").exists()
