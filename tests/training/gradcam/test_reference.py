"""The reference gives published values and has the mathematical properties of its methods."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from training.errors import UserError
from training.gradcam.reference import METHODS, Method, attach_hook, compute_gradcam, find_layer
from training.imaging.preprocessing import Pixels
from training.networks.classifier import Classifier


class OneConv(nn.Module):
    """Captum's test network with one convolution, with Captum's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(1, 2, 3), nn.ReLU()
        self.fc1, self.relu2 = nn.Linear(8, 4), nn.ReLU()
        weights = torch.cat([torch.ones(4, 5), -torch.ones(4, 3)], 1)
        self.load_state_dict(
            {
                "conv1.weight": torch.ones(2, 1, 3, 3),
                "conv1.bias": torch.tensor([-50.0, -75.0]),
                "fc1.weight": weights,
                "fc1.bias": torch.zeros(4),
            }
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu1(self.conv1(x))
        logits: torch.Tensor = self.relu2(self.fc1(x.flatten(1)))
        return logits


@pytest.mark.parametrize(
    ("layer", "expected"),
    [("conv1", [[11.25, 13.5], [20.25, 22.5]]), ("relu1", [[0, 4], [28, 32.5]])],
)
def test_matches_captums_published_arrays(layer: str, expected: list[list[float]]) -> None:
    """The picture has the numbers 0..15, and the target is 0."""
    net = OneConv()
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = compute_gradcam(net, image, torch.tensor([[0]]), net.get_submodule(layer))
    assert found.cam[0, 0].tolist() == expected


def test_the_map_sums_to_the_logit_before_an_average_and_a_linear_layer(
    small: Callable[[nn.Module], Classifier], colors: Pixels
) -> None:
    """Completeness: the sum of the map is the logit without its bias."""
    linear = nn.Linear(6, 5)
    model = small(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)).double()
    image = torch.from_numpy(colors)
    every = torch.arange(5).repeat(len(image), 1)
    found = compute_gradcam(model, image, every, model.network.get_submodule("features"))
    assert torch.allclose(found.logits - linear.bias, found.cam.sum((2, 3)), atol=1e-12)


@pytest.mark.parametrize("layer", ["conv1", "relu1"])
def test_hirescam_keeps_the_place_of_each_gradient(layer: str) -> None:
    """By hand, for the same network: channel 0 with weights 1, channel 1 with 1, -1, -1, -1."""
    net = OneConv()
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    target = torch.tensor([[0]])
    found = compute_gradcam(net, image, target, net.get_submodule(layer), "hirescam")
    assert found.cam[0, 0].tolist() == [[0, 4], [25, 25]]
    assert found.cam.sum() == found.logits[0, 0]  # the linear layer has no bias


def test_both_methods_draw_the_same_map_before_an_average_and_a_linear_layer(
    small: Callable[[nn.Module], Classifier], colors: Pixels
) -> None:
    """They differ after any other head."""
    average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    flat = nn.Sequential(nn.Flatten(), nn.Linear(6 * 256, 5))
    image, target = torch.from_numpy(colors), torch.tensor([[-1, 2]]).repeat(len(colors), 1)
    apart = []
    for head in (average, flat):
        model = small(head).double()
        layer = model.network.get_submodule("features")
        one, other = (
            compute_gradcam(model, image, target, layer, method).cam for method in METHODS
        )
        apart.append(float((one - other).abs().max() / one.abs().max()))
    assert apart[0] < 1e-12
    assert apart[1] > 0.1


def test_hirescam_sums_to_the_logit_before_a_linear_layer(
    small: Callable[[nn.Module], Classifier], colors: Pixels
) -> None:
    """Completeness needs no average: the sum of the map is the logit without its bias."""
    linear = nn.Linear(6 * 64, 5)
    model = small(nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), linear)).double()
    image, every = torch.from_numpy(colors), torch.arange(5).repeat(len(colors), 1)
    layer = model.network.get_submodule("features")
    found = compute_gradcam(model, image, every, layer, "hirescam")
    assert torch.allclose(found.logits - linear.bias, found.cam.sum((2, 3)), atol=1e-12)


def test_alpha_is_the_derivative_of_the_logit(lenet: Classifier, grays: Pixels) -> None:
    """Shifting a whole channel by a small step in double precision gives the same number."""
    model, image = lenet.double(), torch.from_numpy(grays[:2])
    layer = model.network.get_submodule("features.act2")
    found = compute_gradcam(model, image, torch.tensor([[3], [7]]), layer)
    for channel in (0, 5, 15):
        moved = []
        for step in (1e-5, -1e-5):
            by = torch.zeros(16, 1, 1).double()
            by[channel] = step

            def push(
                _: nn.Module, __: object, output: torch.Tensor, by: torch.Tensor = by
            ) -> torch.Tensor:
                return output + by

            with attach_hook(layer, push), torch.no_grad():
                logits = model(image)
            moved.append(logits[torch.arange(2), torch.tensor([3, 7])])
        slope = (moved[0] - moved[1]) / 2e-5 / 100  # over the 100 positions of the map
        assert torch.allclose(slope, found.alpha[:, 0, channel], rtol=1e-6, atol=1e-12)


def test_several_targets_give_the_maps_of_single_targets(lenet: Classifier, grays: Pixels) -> None:
    """T targets equal T calls, -1 equals the top-1, and T = 0 gives no maps."""
    image = torch.from_numpy(grays[:3])
    layer = lenet.network.get_submodule("features.act2")
    both = compute_gradcam(lenet, image, torch.tensor([[1, -1], [2, 3], [4, 4]]), layer)
    best = both.logits.argmax(1)
    for column, targets in enumerate(([1, 2, 4], [int(best[0]), 3, 4])):
        alone = compute_gradcam(lenet, image, torch.tensor(targets)[:, None], layer)
        torch.testing.assert_close(alone.cam[:, 0], both.cam[:, column], rtol=1e-5, atol=1e-8)
    none = compute_gradcam(lenet, image, torch.empty(3, 0, dtype=torch.int64), layer)
    assert none.cam.shape == (3, 0, 10, 10)


@pytest.mark.parametrize("method", METHODS)
def test_a_difference_of_logits_has_the_difference_of_the_maps(
    lenet: Classifier, grays: Pixels, method: Method
) -> None:
    """Both methods are linear in the logit that they explain."""
    image = torch.from_numpy(grays[:4])
    layer = lenet.network.get_submodule("features.act2")
    cam = compute_gradcam(lenet, image, torch.tensor([[4, 9]]).repeat(4, 1), layer, method).cam
    versus = nn.Linear(10, 1, bias=False)
    versus.weight.data = torch.zeros(1, 10)
    versus.weight.data[0, 4], versus.weight.data[0, 9] = 1, -1
    both = nn.Sequential(lenet, versus)
    apart = compute_gradcam(both, image, torch.zeros(4, 1, dtype=torch.int64), layer, method).cam
    assert torch.allclose(cam[:, 0] - cam[:, 1], apart[:, 0], atol=1e-6 * float(cam.abs().max()))


def test_other_weights_give_another_map_and_other_biases_do_not(
    lenet: Classifier, grays: Pixels
) -> None:
    """A map must depend on the weights. A constant added to a logit explains nothing."""
    image, target = torch.from_numpy(grays[:4]), torch.zeros(4, 1, dtype=torch.int64)
    layer = lenet.network.get_submodule("features.act2")
    before = compute_gradcam(lenet, image, target, layer).cam.flatten(1)
    last = lenet.network.get_submodule("classifier.fc3")
    assert isinstance(last, nn.Linear)
    last.bias.data += 5
    assert torch.equal(compute_gradcam(lenet, image, target, layer).cam.flatten(1), before)
    for module in lenet.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
    after = compute_gradcam(lenet, image, target, layer).cam.flatten(1)
    likeness = torch.cosine_similarity(before - before.mean(), after - after.mean())
    assert float(likeness.abs().mean()) < 0.9


@pytest.mark.parametrize(
    ("head", "layer", "sentence"),
    [
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)), "head.0", "1x1"),
        (
            nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)),
            "head.2",
            "four dimensions",
        ),
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)), "neck", "neck"),
    ],
)
def test_a_layer_without_a_map_is_rejected(
    small: Callable[[nn.Module], Classifier],
    colors: Pixels,
    head: nn.Module,
    layer: str,
    sentence: str,
) -> None:
    """The map is 1x1, the output is not a map, or the layer does not exist."""
    model = small(head)
    image, target = torch.from_numpy(colors), torch.zeros(12, 1).long()
    with pytest.raises(UserError, match=sentence):
        compute_gradcam(model, image, target, find_layer(model.network, layer))
