"""A lower precision keeps the contract. Its loss is measured, and a large loss is rejected."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from torch import nn

from tests.training.export.test_pipeline import about, read
from training.artifact.parity import CASES, check_signature, compute_cosine
from training.artifact.precision_loss import ALLOWED_LOSSES, compare_precisions
from training.data.datasets import Dataset, Split
from training.errors import UserError
from training.export.pipeline import export_model
from training.export.request import ExportRequest
from training.graph.compilation import GraphOptions, compile_graph
from training.graph.quantize import reduce_precision
from training.graph.session import open_session
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier


@pytest.fixture
def pooled(small: Callable[[nn.Module], Classifier]) -> Classifier:
    """A network whose alpha has a closed form."""
    return small(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5)))


def compiled(model: Classifier, layer: str, pictures: Pixels) -> onnx.ModelProto:
    options = GraphOptions(precision="int8")
    return compile_graph(model, model.network, layer, pictures, options).proto


def of_type(proto: onnx.ModelProto, op_type: str) -> list[onnx.NodeProto]:
    return [node for node in proto.graph.node if node.op_type == op_type]


@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_lower_precision_keeps_the_contract(
    pooled: Classifier, colors: Pixels, name: str
) -> None:
    """Inputs, outputs, opset and dynamic sizes stay, and rows do not depend on each other."""
    full = compiled(pooled, "features", colors)
    small = reduce_precision(full, name, colors)
    check_signature(small)
    assert [value.type for value in small.graph.output] == [v.type for v in full.graph.output]
    run = open_session(small)
    for n, t in CASES:
        image, target = np.resize(colors, (n, *colors.shape[1:])), np.full((n, t), -1)
        logits, _, cam = run(image, target)
        assert logits.dtype == cam.dtype == np.float32
        assert logits.shape == (n, 5)
        assert cam.shape == (n, t, 16, 16)
        alone = run(image[-1:], target[-1:])
        assert np.allclose(alone[0][0], logits[-1], atol=1e-3)


def test_a_map_by_hirescam_can_have_a_lower_precision(
    small: Callable[[nn.Module], Classifier], colors: Pixels
) -> None:
    """Only the network up to the target layer has fewer bits, as for Grad-CAM."""
    model = small(nn.Sequential(nn.Flatten(), nn.Linear(6 * 256, 5)))
    options = GraphOptions(precision="int8", method="hirescam")
    full = compile_graph(model, model.network, "features", colors, options).proto
    target = np.arange(len(colors))[:, None] % 5
    expected = open_session(full)(colors, target)[2]
    for name in ("fp16", "int8"):
        found = open_session(reduce_precision(full, name, colors))(colors, target)[2]
        assert compute_cosine(expected, found) > (0.999 if name == "fp16" else 0.97)


def test_int8_quantizes_the_body_but_not_the_head(pooled: Classifier, colors: Pixels) -> None:
    """Convolutions have 8-bit weights with a scale per channel. The head computes in 32 bits."""
    small = reduce_precision(compiled(pooled, "features", colors), "int8", colors)
    tensors = {tensor.name: tensor for tensor in small.graph.initializer}
    makers = {output: node for node in small.graph.node for output in node.output}
    for conv in of_type(small, "Conv"):
        weight = makers[conv.input[1]]
        assert weight.op_type == "DequantizeLinear"
        values = tensors[weight.input[0]]
        assert values.data_type == TensorProto.INT8
        assert tensors[weight.input[1]].dims == [values.dims[0]]
    assert len(of_type(small, "Conv")) == 2
    for product in of_type(small, "Gemm") + of_type(small, "MatMul"):
        for name in product.input:
            assert name not in makers or makers[name].op_type != "DequantizeLinear"


def test_the_map_is_exact_for_the_network_that_is_served(
    pooled: Classifier, colors: Pixels
) -> None:
    """With an average and a linear layer, the map's sum is the logit without its bias."""
    small = reduce_precision(compiled(pooled, "features", colors), "int8", colors)
    logits, _, cam = open_session(small)(colors, np.tile(np.arange(5), (len(colors), 1)))
    bias = pooled.network.get_submodule("head.2").bias
    assert isinstance(bias, nn.Parameter)
    assert np.allclose(cam.sum((2, 3)), logits - bias.detach().numpy(), atol=1e-4)


def test_fp16_computes_convolutions_in_16_bits(pooled: Classifier, colors: Pixels) -> None:
    """Their weights are stored in 16 bits. Preprocessing and head compute in 32 bits."""
    small = reduce_precision(compiled(pooled, "features", colors), "fp16", colors)
    tensors = {tensor.name: tensor for tensor in small.graph.initializer}
    for conv in of_type(small, "Conv"):
        assert tensors[conv.input[1]].data_type == TensorProto.FLOAT16
    for product in of_type(small, "Gemm"):
        assert tensors[product.input[1]].data_type == TensorProto.FLOAT


@pytest.mark.parametrize(
    "name", ["int8", *(pytest.param(name, marks=pytest.mark.slow) for name in ("w16", "fp16"))]
)
def test_the_card_has_the_loss_of_a_lower_precision(
    lenet: Classifier, grays: Pixels, strokes: Dataset, tmp_path: Path, name: str
) -> None:
    """It is measured against fp32 on the test pictures. What agrees with torch is named."""
    splits, said = strokes.splits, list[str]()
    request = ExportRequest(
        about(lenet),
        lenet,
        "features.act2",
        grays,
        tmp_path,
        test=splits["test"],
        precision=name,
        calibration=splits["val"].pictures,
        maps=0,
        say=said.append,
    )
    folder = export_model(request)
    _, found = read(folder)
    figures = found["checks"]["precision"]
    points, cosine = ALLOWED_LOSSES[name]
    assert found["precision"] == figures["precision"] == name
    assert (figures["pictures"], figures["labelled"]) == (len(splits["test"]), True)
    assert figures["accuracy_points"] >= -points
    assert 1 >= figures["cam_cosine"] >= cosine
    assert 0 <= figures["cam_pointing"] <= 1
    assert figures["cpu_speed"] > 0
    lost = found["metrics"]["accuracy"] - figures["accuracy_fp32"]
    assert 100 * lost == pytest.approx(figures["accuracy_points"], abs=1e-3)
    exact = "exact" if name == "w16" else f"exact in 32 bits, before {name}"
    assert any(line.startswith(f"{exact}: cam within ") for line in said)
    page = (folder / "report" / "README.md").read_text()
    assert ("comparisons with torch are those of the graph in 32 bits" in page) == (name != "w16")
    cosine_row = f"between its maps and those in 32 bits | {figures['cam_cosine']:.6g} |"
    assert cosine_row in page


@pytest.mark.slow
def test_a_large_loss_writes_nothing(lenet: Classifier, grays: Pixels, tmp_path: Path) -> None:
    """Ranges that are calibrated on black pictures fit no others."""
    request = ExportRequest(
        about(lenet),
        lenet,
        "features.act2",
        grays,
        tmp_path / "tree",
        precision="int8",
        calibration=np.zeros_like(grays),
    )
    with pytest.raises(UserError, match=r"int8 (loses .* points of accuracy|changes the maps)"):
        export_model(request)
    assert not (tmp_path / "tree").exists()


def test_int8_without_calibration_pictures_is_rejected(
    lenet: Classifier, grays: Pixels, tmp_path: Path
) -> None:
    """It is rejected before anything is computed."""
    request = ExportRequest(about(lenet), lenet, "features.act2", grays, tmp_path, precision="int8")
    with pytest.raises(UserError, match="calibrated on real pictures"):
        export_model(request)


def test_the_loss_of_accuracy_is_measured_on_labels(lenet: Classifier, grays: Pixels) -> None:
    """The same graph loses nothing. A graph with wrong answers is rejected."""
    full = compiled(lenet, "features.act2", grays)
    truth = open_session(full)(grays, np.empty((len(grays), 0), np.int64))[0].argmax(1)
    same = compare_precisions(full, full, "int8", Split(grays, truth))
    assert (same["accuracy_fp32"], same["accuracy_points"], same["cam_cosine"]) == (1, 0, 1)
    other = onnx.ModelProto()
    other.CopyFrom(full)
    biases = {node.input[2] for node in of_type(other, "Gemm")}
    [bias] = [t for t in other.graph.initializer if t.name in biases and t.dims == [10]]
    moved = onnx.numpy_helper.to_array(bias) + 100 * np.eye(10, dtype="f4")[(truth[0] + 1) % 10]
    bias.CopyFrom(onnx.numpy_helper.from_array(moved, bias.name))
    with pytest.raises(UserError, match="points of accuracy"):
        compare_precisions(full, other, "int8", Split(grays, truth))
