"""A U-Net is trained, measured and exported; its graph is exact and its card tells what it is."""

import argparse
import base64
import copy
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torch import nn

from tests.training.masks.conftest import LABELS, SPEC, Exported, make_config, write_pictures
from training.artifact.card import ModelInfo
from training.artifact.mask_parity import check_mask_parity
from training.artifact.palette import find_background, make_palette
from training.commands.evaluate import run_evaluate
from training.config_file import check_combinations
from training.data.datasets import load_dataset
from training.data.decoded.masks import read_mask
from training.errors import CheckError, UserError
from training.evaluate.masks.faithfulness import measure_mask_maps
from training.evaluate.masks.overlap import compute_mask_metrics, place_mask
from training.export.import_network import ImportRequest
from training.export.masks.import_network import import_mask_network
from training.export.masks.request import MaskExportRequest, check_mask_request
from training.fit.loop import fit
from training.fit.search import search_hyperparameters
from training.gradcam.masks.reference import MaskQuestion, explain_mask
from training.graph.mask_graph import MaskOptions, make_mask_plan
from training.graph.session import open_mask_session
from training.imaging.preprocessing import load_pixels
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, build_classifier
from training.report.model_card import read_card


def test_training_learns_the_masks_and_keeps_the_epoch_with_the_highest_miou(
    exported: Exported,
) -> None:
    state = torch.load(exported.run / "best.pt", weights_only=True)
    mious = [epoch["val_miou"] for epoch in torch.load(exported.run / "last.pt")["history"]]
    assert max(mious) > 0.8
    assert state["epoch"] == int(np.argmax(mious)) + 1


def test_training_in_16_bits_learns_the_masks_and_keeps_weights_of_32(
    exported: Exported, tmp_path: Path
) -> None:
    config = replace(exported.config, precision="bf16")
    figures = fit(config, load_dataset(config), tmp_path)
    assert figures["train_loss"] != exported.figures["train_loss"]
    assert figures["val_miou"] == pytest.approx(exported.figures["val_miou"], abs=0.1)
    weights = torch.load(tmp_path / "best.pt", weights_only=True)["weights"]
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float32}


def test_the_card_has_the_keys_and_figures_of_the_interface(exported: Exported) -> None:
    card: dict[str, Any] = exported.card
    assert card["task"] == "segmentation"
    assert card["labels"] == list(LABELS)
    assert card["background"] == 0
    assert card["palette"] == ["#000000", "#e69f00", "#56b4e9"]
    assert {k: card["gradcam"][k] for k in ("layer", "method", "compiler")} == {
        "layer": "bottleneck",
        "method": "seg-hirescam",
        "compiler": "backward",
    }
    assert "calibration" not in card
    checks = card["checks"]
    assert checks["cam"] < 1e-4
    assert checks["mask"] == checks["empty"] == 0
    assert checks["additivity"] < 1e-4
    assert checks["test_miou_torch"] == checks["test_miou_onnx"]
    assert card["metrics"]["per_class"]["disk"]["dice"] > 0.8
    cost = card["gradcam"]["cost"]
    assert cost.keys() == {"plain_ms", "explained_ms", "ratio", "without_targets"}
    assert min(cost.values()) > 0
    proto = onnx.load(exported.folder / "model.onnx")
    assert (proto.domain, str(proto.model_version)) == ("sightglass", exported.folder.name)
    assert proto.doc_string.startswith("A segmentation model, unet, with 3 labels: ")
    page = (exported.folder / "report" / "README.md").read_text()
    assert "for each pixel, one of 3" in page
    assert all((exported.folder / "report" / name).is_file() for name in ("mask_maps.png",))


def test_the_golden_tests_hold_what_the_graph_answers(exported: Exported) -> None:
    run = open_mask_session(onnx.load(exported.folder / "model.onnx"))
    probes: Any = exported.card["golden"]
    assert [probe["region"][0] for probe in probes] == [-1, -1]
    for probe in probes:
        image = load_pixels(base64.b64decode(probe["image"]), SPEC)[None]
        mask, _, cam = run(image, np.array([[probe["target"]]]), np.array([[probe["region"]]]))
        stored = np.array(Image.open(BytesIO(base64.b64decode(probe["mask"]))))
        assert np.array_equal(stored, mask[0])
        assert probe["shares"] == pytest.approx(np.bincount(mask.ravel(), minlength=3) / mask.size)
        assert np.allclose(probe["cam"], cam[0, 0], rtol=1e-6)


def test_figures_are_those_of_the_masks_at_their_own_size(exported: Exported) -> None:
    intersection, union = np.zeros(3), np.zeros(3)
    for picture, pair in zip(exported.test.pictures, exported.test.files, strict=True):
        truth = read_mask(pair, 3)
        answer = exported.model.predict(picture[None]).argmax(1)[0].astype(np.uint8)
        size = truth.shape[::-1]
        own = np.array(Image.fromarray(answer).resize(size, Image.Resampling.NEAREST))
        for k in range(3):
            intersection[k] += ((truth == k) & (own == k)).sum()
            union[k] += ((truth == k) | (own == k)).sum()
    metrics: Any = exported.card["metrics"]
    assert metrics["miou"] == pytest.approx((intersection / union).mean(), abs=1e-5)


def test_evaluate_writes_a_report_with_the_worst_masks(exported: Exported, tmp_path: Path) -> None:
    run_evaluate(
        argparse.Namespace(checkpoint=exported.run / "best.pt", split="test", out=tmp_path)
    )
    assert "miou" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "worst_masks.png").is_file()


def test_a_mask_is_placed_where_its_picture_was_cut() -> None:
    spec = replace(SPEC, height=10, width=10, resize=10, crop="center")
    placed = place_mask(np.ones((10, 10), np.uint8), (20, 40), spec)
    assert (placed[:, :10] == 255).all()
    assert (placed[:, 10:30] == 1).all()
    assert (placed[:, 30:] == 255).all()


class Head(nn.Module):
    """A map and a linear head of 3 x 3 convolutions after it."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
        self.wide = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.classifier = nn.Conv2d(4, 3, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.classifier(self.wide(self.features(x)))}


def make_head() -> Head:
    torch.manual_seed(0)
    return Head()


def test_the_map_of_a_linear_head_sums_to_the_logits_without_their_bias() -> None:
    network = make_head()
    model = Classifier(SPEC, network).eval()
    network.register_forward_hook(lambda *arguments: arguments[-1]["out"])
    image = torch.from_numpy(generate_images(2, 32, 48, 3))
    question = MaskQuestion(
        image, torch.tensor([[1], [2]]), torch.tensor([[[-2, 3, 4, 20, 30]]] * 2)
    )
    found = explain_mask(model, question, network.features, "seg-hirescam", None)
    for row, index in enumerate((1, 2)):
        bias = float(network.state_dict()["classifier.bias"][index]) * int(found.pixels[row].sum())
        y = float(found.logits[row, index][found.pixels[row, 0]].sum())
        assert float(found.cam[row].sum()) == pytest.approx(y - bias, rel=1e-4)


def test_a_layer_that_only_a_1x1_convolution_follows_is_refused() -> None:
    model = Classifier(SPEC, make_head()).eval()
    model.network.register_forward_hook(lambda *arguments: arguments[-1]["out"])
    image = torch.from_numpy(generate_images(2, 32, 48, 3))
    assert make_mask_plan(model, MaskOptions("features"), image).height == 32
    with pytest.raises(UserError, match="Choose an earlier layer"):
        make_mask_plan(model, MaskOptions("wide"), image)


def test_a_graph_with_other_weights_than_torchs_fails_the_checks(exported: Exported) -> None:
    pictures = np.asarray(exported.test.pictures[:3])
    options = MaskOptions("bottleneck", background=0)
    plan = make_mask_plan(exported.model, options, torch.from_numpy(pictures))
    graph = onnx.load(exported.folder / "model.onnx")
    right = copy.deepcopy(graph)
    assert check_mask_parity(graph, right, exported.model, plan, pictures)["cam"] < 1e-4
    weight = max(graph.graph.initializer, key=lambda t: np.prod(t.dims))
    changed = numpy_helper.to_array(weight) * np.float32(1.01)
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    with pytest.raises(CheckError, match="The exported graph is not exact"):
        check_mask_parity(graph, right, exported.model, plan, pictures)


def test_maps_of_a_random_network_fail_the_check_of_faithfulness(exported: Exported) -> None:
    """What a random network predicts changes no less where its maps are cold."""
    torch.manual_seed(3)
    model = build_classifier("unet", 3, SPEC, {"width": 8, "levels": 2}).eval()
    plan = make_mask_plan(
        model,
        MaskOptions("bottleneck", background=0),
        torch.from_numpy(generate_images(2, 32, 48, 3)),
    )

    def run(image: Any, target: Any, region: Any) -> list[Any]:
        question = MaskQuestion(*(torch.from_numpy(np.asarray(v)) for v in (image, target, region)))
        found = explain_mask(
            model, question, model.network.get_submodule("bottleneck"), plan.method, 0
        )
        p = found.logits.softmax(1)
        return [p.argmax(1).to(torch.uint8).numpy(), p.numpy(), found.cam.numpy()]

    maps = measure_mask_maps(run, model, plan, exported.test, LABELS, "the test split", 6)
    assert any("takes only" in doubt for doubt in maps.figures["doubts"])
    own = exported.card["checks"]
    assert isinstance(own, dict)
    assert not any("takes only" in doubt for doubt in own["faithfulness"]["doubts"])


def test_the_card_has_the_mean_map_of_each_class_over_its_own_pixels(exported: Exported) -> None:
    attention: Any = exported.card["attention"]
    run = open_mask_session(onnx.load(exported.folder / "model.onnx"))
    maps: dict[int, list[Any]] = {}
    largest = []
    for picture in exported.test.pictures[:, None]:
        mask = run(picture, np.zeros((1, 0), np.int64), np.zeros((1, 0, 5), np.int64))[0]
        region = np.array([[[-1, 0, 0, SPEC.width, SPEC.height]]])
        classes = np.unique(mask).tolist()
        cams = {k: run(picture, np.array([[k]]), region)[2][0, 0] for k in classes}
        for index, cam in cams.items():
            maps.setdefault(index, []).append(np.maximum(cam, 0) / cam.max())
        sizes = np.bincount(mask.ravel(), minlength=3)[1:]
        largest.append(maps[1 + int(sizes.argmax())][-1])
    assert attention["maps"] == len(largest) == len(exported.test)
    np.testing.assert_allclose(attention["mean"], np.mean(largest, 0), atol=1e-3)
    assert attention["classes"].keys() == {LABELS[index] for index in maps}
    for index, own in maps.items():
        found = attention["classes"][LABELS[index]]
        assert found["count"] == len(own)
        np.testing.assert_allclose(found["mean"], np.mean(own, 0), atol=1e-3)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "method": ({"method": "gradcam"}, "--method must be seg-hirescam, seg-gradcam or auto"),
    "precision": ({"precision": "int8"}, "int8 is not offered for masks"),
    "auto": ({"layer": "auto"}, "need pictures with masks"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_requests_that_masks_do_not_have_are_refused(
    exported: Exported, tmp_path: Path, name: str
) -> None:
    changes, sentence = REFUSED[name]
    with pytest.raises(UserError, match=sentence):
        check_mask_request(replace(make_request(exported, tmp_path), **changes))


def test_probabilities_of_more_than_16_mib_a_picture_are_refused(
    exported: Exported, tmp_path: Path
) -> None:
    request = make_request(exported, tmp_path)
    info = replace(request.info, input=replace(SPEC, height=1024, width=2048))
    with pytest.raises(UserError, match=r"24 MiB .*at most 16 MiB"):
        check_mask_request(replace(request, info=info))


def make_request(exported: Exported, folder: Path) -> MaskExportRequest:
    info = ModelInfo("shapes", "unet", LABELS, SPEC, "segmentation", "CC0", {})
    return MaskExportRequest(
        info, exported.model, "bottleneck", np.asarray(exported.test.pictures), folder
    )


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "one label": ({"labels": ("disk",)}, "`labels` must be two to 255 different names"),
    "a label twice": ({"labels": ("disk", "disk")}, "`labels` must be two to 255"),
    "focal": ({"loss": "focal"}, "loss=focal and task=segmentation cannot be combined"),
    "other task": ({"task": "multiclass"}, "is for task=segmentation"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_do_not_suit_masks_are_refused(tmp_path: Path, name: str) -> None:
    changes, sentence = SETTINGS[name]
    with pytest.raises(UserError, match=sentence):
        check_combinations(replace(make_config(tmp_path), **changes))


def test_palettes_tell_many_classes_apart() -> None:
    labels = ("a", "background", *(f"class {i}" for i in range(60)))
    palette = make_palette(labels)
    assert find_background(labels) == 1
    assert palette[1] == "#000000"
    assert len(set(palette)) == len(labels)


def test_masks_of_the_most_frequent_class_alone_are_no_better_than_chance() -> None:
    always = torch.tensor([[[80, 0], [20, 0]]])
    assert "gives 0.400" in compute_mask_metrics(always, ("ground", "thing"))["doubts"][0]
    right = torch.tensor([[[75, 5], [5, 15]]])
    assert "doubts" not in compute_mask_metrics(right, ("ground", "thing"))


@pytest.mark.slow
def test_tune_keeps_the_trial_with_the_highest_miou(exported: Exported, tmp_path: Path) -> None:
    config = replace(exported.config, epochs=1, name="tuned")
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    best = search_hyperparameters(config, load_dataset(config), storage, 3, tmp_path)
    assert best.task == "segmentation"
    assert "validation mIoU" in (tmp_path / "tuned.py").read_text()


def import_with(folder: Path, labels: str, **changes: Any) -> Path:
    (folder / "labels.txt").write_text(labels)
    given: dict[str, Any] = {
        "architecture": "tests.training.masks.test_export:make_head",
        "weights": None,
        "labels": folder / "labels.txt",
        "size": 32,
        "resize": None,
        "mean": None,
        "std": None,
        "task": "segmentation",
        "pictures": None,
        "origin": "test",
        "license": "CC0",
        "to": folder / "models",
        "name": "head",
        "version": None,
        "layer": "features",
        "precision": "fp32",
    }
    return import_mask_network(ImportRequest(**{**given, **changes}))


@pytest.mark.slow
def test_a_network_of_ones_own_is_imported_with_pictures_and_the_best_layer(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data", 4)
    folder = import_with(
        tmp_path, "background\ndisk\nsquare\n", pictures=tmp_path / "data", layer="auto", maps=2
    )
    assert (folder / "model.onnx").is_file()


def test_a_network_with_other_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="each pixel 3 logits, but there are 2 labels"):
        import_with(tmp_path, "background\ndisk\n")
    with pytest.raises(UserError, match=r"takes package\.module:function"):
        import_with(tmp_path, "background\ndisk\nsquare\n", architecture="resnet18")


def make_deeplab() -> nn.Module:
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    torch.manual_seed(0)
    network: nn.Module = deeplabv3_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=3
    )
    return network


def make_fcn() -> nn.Module:
    """With the second head that torchvision trains it with."""
    from torchvision.models.segmentation import fcn_resnet50

    torch.manual_seed(0)
    network: nn.Module = fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=3, aux_loss=True
    )
    return network


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "layer"), [("make_deeplab", "backbone.16"), ("make_fcn", "backbone.layer4")]
)
def test_torchvisions_networks_are_imported_with_their_default_layers(
    tmp_path: Path, network: str, layer: str
) -> None:
    folder = import_with(
        tmp_path,
        "background\ndisk\nsquare\n",
        architecture=f"tests.training.masks.test_export:{network}",
        size=64,
        layer=None,
    )
    card: dict[str, Any] = read_card((folder / "model.onnx").read_bytes())
    assert card["gradcam"]["layer"] == layer
    assert card["checks"]["cam"] < 1e-4
