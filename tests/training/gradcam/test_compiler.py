"""The compiled graph in onnxruntime agrees with torch's definition and with pytorch-grad-cam."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.conftest import GRAY
from tests.training.gradcam.test_plan import HEADS
from training.artifact.parity import check_parity
from training.gradcam.heatmap import resize_and_normalize
from training.gradcam.reference import METHODS, Method, attach_hook, find_layer
from training.graph.compilation import (
    CompiledGraph,
    GraphOptions,
    compile_graph,
    compile_prediction_graph,
)
from training.graph.session import open_session
from training.imaging.preprocessing import Input, Pixels
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, build_classifier
from training.networks.lenet import LeNet5

LENET_LAYERS = [
    "features.act2",
    "features.conv1",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("features.conv2", "features.act1")),
]


# One closed form of each kind, and one that is differentiated; the others are slow.
QUICK_HEADS = {
    "gradcam": ("average and linear", "pools and a perceptron", "pool and convolution"),
    "hirescam": ("convolution and average",),
}
CASES = [(name, method) for method in METHODS for name in HEADS]


def mark_slow(name: str, method: str) -> object:
    """Parameters of a test, marked as slow or not."""
    quick = name in QUICK_HEADS[method]
    return pytest.param(name, method, marks=[] if quick else [pytest.mark.slow])


def parity(model: Classifier, layer: str, pictures: Pixels, tolerance: float) -> None:
    """Compare alpha, cam and the final map of the exported graph with pytorch-grad-cam's."""
    # Imported here, since pytorch_grad_cam takes seconds to import.
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    compiled = compile_graph(model, model.network, layer, pictures, GraphOptions(alpha=True))
    run = open_session(compiled.proto)
    x = model.preprocess(torch.from_numpy(pictures))
    classes = model(torch.from_numpy(pictures)).shape[1]
    target = np.arange(len(pictures))[:, None] % classes
    _, _, cam, alpha = run(pictures, target)
    reference = GradCAM(model.network.requires_grad_(True), [find_layer(model.network, layer)])
    wanted = [ClassifierOutputTarget(int(c)) for c in target[:, 0]]
    final = reference(x, wanted)
    a, g = (getattr(reference.activations_and_grads, n)[0] for n in ("activations", "gradients"))
    weights = reference.get_cam_weights(x, None, wanted, a.detach().numpy(), g.numpy())
    assert close(alpha[:, 0], weights, tolerance)
    assert close(cam[:, 0], (weights[:, :, None, None] * a.detach().numpy()).sum(1), tolerance)
    for row in range(len(pictures)):
        found = resize_and_normalize(np.maximum(cam[row, 0], 0), pictures.shape[1:3])
        assert np.abs(found - final[row]).max() < 1 / 255


def close(found: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    """Whether the deviation is within a share of each row's largest value."""
    axes = tuple(range(1, expected.ndim))
    size = np.abs(expected).max(axes, keepdims=True)
    return bool((np.abs(found - expected) <= tolerance * size + 1e-12).all())


@pytest.mark.parametrize("layer", LENET_LAYERS)
def test_lenet_matches_pytorch_grad_cam(lenet: Classifier, grays: Pixels, layer: str) -> None:
    """The maps of four layers agree within 1e-5 of their maximum."""
    parity(lenet, layer, grays, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "layer"), [("resnet18", "layer4"), ("squeezenet1_1", "features")]
)
def test_deep_networks_match_pytorch_grad_cam(architecture: str, layer: str) -> None:
    """The maps of the last stage agree within 1e-4 of their maximum."""
    torch.manual_seed(0)
    model = build_classifier(architecture, 10, Input("RGB", 64, 64, 64), {}).eval()
    parity(model, layer, generate_images(7, 64, 64, 3), 1e-4)


@pytest.mark.parametrize(("name", "method"), [mark_slow(*case) for case in CASES])
def test_every_kind_of_head_passes_the_checks(
    small: Callable[[nn.Module], Classifier], colors: Pixels, name: str, method: Method
) -> None:
    """The checks cover batches of 1 to 7, no target to three, and rows alone and in a batch."""
    model = small(HEADS[name][0])
    compiled = compile_graph(model, model.network, "features", colors, GraphOptions(method=method))
    layer = model.network.get_submodule("features")
    plain = compile_prediction_graph(model, colors)
    figures = check_parity(compiled.proto, plain, model, layer, colors, method)
    assert figures["cam"] < 1e-5


def test_hirescam_goes_through_convolutions_and_max_pools(grays: Pixels) -> None:
    """An early layer of a digit network: the gradient of a pool, a convolution and a perceptron."""
    torch.manual_seed(1)
    model = Classifier(GRAY, LeNet5(activation="relu", pooling="max")).eval()
    name = "features.pool1"
    options = GraphOptions(method="hirescam")
    compiled = compile_graph(model, model.network, name, grays, options)
    assert (compiled.plan.pivot, compiled.plan.method) == ("classifier.fc1", "hirescam")
    layer, plain = model.network.get_submodule(name), compile_prediction_graph(model, grays)
    assert check_parity(compiled.proto, plain, model, layer, grays, "hirescam")["cam"] < 1e-5


def test_lenets_graph_has_no_needless_nodes(compiled: CompiledGraph) -> None:
    """It has no shape arithmetic, one forward pass, and a gradient of two products and a gather."""
    kinds = [node.op_type for node in compiled.proto.graph.node]
    assert len(kinds) <= 40
    assert not {"Shape", "Expand", "ConvTranspose", "Concat"} & set(kinds)
    assert (kinds.count("Conv"), kinds.count("Gemm"), kinds.count("MatMul")) == (2, 3, 3)


def test_permuting_rows_permutes_maps(compiled: CompiledGraph, grays: Pixels) -> None:
    """A row's outputs depend on that row only."""
    run = open_session(compiled.proto)
    order = np.random.default_rng(0).permutation(len(grays))
    target = np.arange(12)[:, None] % 10
    straight, mixed = run(grays, target), run(grays[order], target[order])
    for expected, found in zip(straight, mixed, strict=True):
        assert np.allclose(expected[order], found, atol=1e-6)


def test_weights_in_16_bits_are_exact_for_the_rounded_network(
    compiled: CompiledGraph, lenet: Classifier, grays: Pixels
) -> None:
    """The file has about half the size, and agrees with the network with rounded weights."""
    rounded = GraphOptions(precision="w16")
    half = compile_graph(lenet, lenet.network, "features.act2", grays, rounded)
    assert half.proto.ByteSize() < 0.6 * compiled.proto.ByteSize()
    layer = lenet.network.get_submodule("features.act2")
    plain = compile_prediction_graph(lenet, grays)
    assert check_parity(half.proto, plain, lenet, layer, grays)["cam"] < 1e-5


def test_a_difference_of_maps_is_the_map_of_the_difference(
    compiled: CompiledGraph, lenet: Classifier, grays: Pixels
) -> None:
    """cam(a) - cam(b) of the file is Grad-CAM of y[a] - y[b], by torch's own gradient."""
    layer = find_layer(lenet.network, "features.act2")
    _, _, cam = open_session(compiled.proto)(grays, np.tile([[4, 9]], (len(grays), 1)))
    held: list[torch.Tensor] = []

    def leaf(_: nn.Module, __: object, output: torch.Tensor) -> torch.Tensor:
        held.append(output.detach().requires_grad_())
        return held[0]

    with attach_hook(layer, leaf):
        y = lenet(torch.from_numpy(grays))
    (gradient,) = torch.autograd.grad((y[:, 4] - y[:, 9]).sum(), held[0])
    expected = (gradient.mean((2, 3), keepdim=True) * held[0]).sum(1).detach().numpy()
    assert close(cam[:, 0] - cam[:, 1], expected, 1e-4)
