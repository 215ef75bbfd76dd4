"""Exported graphs of every family of architectures are exact at their default target layer."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from training.gradcam.reference import compute_gradcam, find_layer
from training.graph.compilation import compile_graph
from training.graph.session import open_session
from training.imaging.preprocessing import Input
from training.imaging.synthetic import generate_images
from training.networks.classifier import build_classifier, get_default_layer
from training.networks.torchvision_zoo import get_imagenet_labels, get_torchvision_input

KINDS = [  # a linear head, a convolution as head
    ("resnet18", 64, "closed-form"),
    ("squeezenet1_1", 64, "closed-form"),
]
OTHERS = [
    ("mobilenet_v3_small", 64, "backward"),
    ("vgg11_bn", 32, "backward"),
    ("convnext_tiny", 64, "backward"),
    ("alexnet", 63, "backward"),
    ("vgg11", 32, "backward"),
    ("googlenet", 64, "closed-form"),
    ("inception_v3", 107, "closed-form"),
    ("resnext50_32x4d", 64, "closed-form"),
    ("densenet121", 64, "closed-form"),
    ("mobilenet_v2", 64, "closed-form"),
    ("efficientnet_b0", 64, "closed-form"),
    ("regnet_y_400mf", 64, "closed-form"),
    ("mnasnet0_5", 64, "closed-form"),
    ("shufflenet_v2_x0_5", 64, "closed-form"),
]
FAMILIES = [*KINDS, *(pytest.param(*other, marks=pytest.mark.slow) for other in OTHERS)]


@pytest.mark.parametrize(
    ("architecture", "size", "compiler"), FAMILIES, ids=lambda value: str(value)
)
def test_exported_graph_matches_torch(architecture: str, size: int, compiler: str) -> None:
    """Logits and cam agree with torch in 64 bits, for several targets and for none.

    If torch in 32 bits deviates by more than 1e-4, the file may do so too.
    """
    torch.manual_seed(0)
    wanted = Input("RGB", size, size, size)
    model = build_classifier(architecture, 7, wanted, {})
    slim(model.network)
    pictures = generate_images(5, size, size, 3)
    settle(model, pictures)
    layer = get_default_layer(model.network)
    compiled = compile_graph(model, model.network, layer, pictures)
    assert compiled.plan.compiler == compiler
    target = np.array([[-1, 2], [3, 3], [0, 6], [5, 1], [4, -1]])
    logits, _, cam = open_session(compiled.proto)(pictures, target)
    inputs = torch.from_numpy(pictures), torch.from_numpy(target)
    exact = copy.deepcopy(model).double()
    expected = compute_gradcam(exact, *inputs, find_layer(exact.network, layer))
    rounded = compute_gradcam(model, *inputs, find_layer(model.network, layer))
    assert np.abs(logits - expected.logits.numpy()).max() <= 1e-4 * expected.logits.abs().max()
    largest = expected.cam.abs().amax((2, 3), keepdim=True).numpy().clip(1e-9)
    apart, torchs = (
        np.abs(maps - expected.cam.numpy()) / largest for maps in (cam, rounded.cam.numpy())
    )
    assert apart.max() <= max(1e-4, 3 * torchs.max())  # what export allows, too
    assert open_session(compiled.proto)(pictures, target[:, :0])[2].shape[:2] == (5, 0)


def slim(network: nn.Module) -> None:
    """Make wide linear layers narrow, and ConvNeXt's stages one block long, to save time."""
    if isinstance(network, torchvision.models.ConvNeXt):
        for stage in (1, 3, 5, 7):
            network.features[stage] = network.features[stage][:1]
    width = 0
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.Linear) and layer.in_features > 4000:
            outputs = 24 if layer.out_features > 1000 else layer.out_features
            new = nn.Linear(width or layer.in_features, outputs)
            parent, _, child = name.rpartition(".")
            setattr(network.get_submodule(parent), child, new)
            width = outputs


def settle(model: nn.Module, pictures: np.ndarray) -> None:
    """Set the statistics of the batch-norms as training would."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.from_numpy(pictures))
    model.eval()


@pytest.mark.parametrize("architecture", ["resnet50", "inception_v3", "efficientnet_b3"])
def test_input_is_that_of_torchvisions_weights(architecture: str) -> None:
    """Size and resize are those that torchvision used to train the weights."""
    expected = {
        "resnet50": (224, 256), "inception_v3": (299, 342), "efficientnet_b3": (300, 320)
    }[architecture]  # fmt: skip
    found = get_torchvision_input(architecture)
    assert (found.height, found.resize) == expected
    if architecture != "inception_v3":  # has a normalisation of its own
        assert found.mean == (0.485, 0.456, 0.406)


def test_imagenet_labels_are_unique() -> None:
    """There are a thousand, although torchvision's list has two names twice."""
    names = get_imagenet_labels("resnet50")
    assert len(names) == len(set(names)) == 1000
