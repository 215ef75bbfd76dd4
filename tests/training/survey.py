"""Not a test: measures every family for docs/reference/architectures-measured.md.

Commands: python -m tests.training.survey [architecture …]
          python -m tests.training.survey --methods [architecture …]
Cost: about ten seconds a row on a quiet machine; only the rows of what is named are measured anew.
`--methods` compares HiResCAM with Grad-CAM where they differ.

Real weights where $SIGHTGLASS_DATA has them, else random ones with settled batch-norms.
"""

import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from tests.training.export.test_families import settle
from training.config import get_data_folder
from training.gradcam.heatmap import resize_and_normalize
from training.gradcam.reference import METHODS, compute_gradcam, find_layer
from training.graph.compilation import (
    GraphOptions,
    compile_graph,
    compile_prediction_graph,
)
from training.graph.session import measure_cost, open_session
from training.imaging.preprocessing import Pixels
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, build_classifier, get_default_layer
from training.networks.torchvision_zoo import get_torchvision_input
from training.networks.weight_files import read_state_dict
from training.networks.weights import load_into_network

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "architectures-measured.md"
PARITY, METHODS_TABLE = "parity", "methods"
METHODS_HEAD = (
    "| architecture | weights | layer | map | HiResCAM's compiler | cam | torch's own cam | "
    "Grad-CAM / plain | HiResCAM / plain |\n|---|---|---|---|---|---|---|---|---|\n"
)
HEAD = (
    "| architecture | weights | layer | map | compiler | probabilities | alpha | cam | map 0..1 | "
    "torch's own cam | explained / plain |\n|---|---|---|---|---|---|---|---|---|---|---|\n"
)
EARLIER = {
    "alexnet": "features.7",
    "vgg11": "features.12",
    "vgg16": "features.22",
    "vgg16_bn": "features.32",
    "googlenet": "inception4e",
    "inception_v3": "Mixed_6e",
    "resnet18": "layer3",
    "resnet50": "layer3",
    "resnext50_32x4d": "layer3",
    "wide_resnet50_2": "layer3",
    "densenet121": "features.transition3",
    "squeezenet1_1": "features.10",
    "mobilenet_v2": "features.13",
    "mobilenet_v3_small": "features.8",
    "efficientnet_b0": "features.5",
    "regnet_y_400mf": "trunk_output.block3",
    "mnasnet0_5": "layers.11",
    "shufflenet_v2_x0_5": "stage3",
    "convnext_tiny": "features.5",
}
ROWS = 4  # pictures compared
Array = NDArray[np.float32]


def line(architecture: str, layer: str | None, size: int) -> str:
    """Parity with torch and pytorch-grad-cam, and the cost, as a row of the table."""
    model, pictures, weights = load(architecture, size)
    name = layer or get_default_layer(model.network)
    compiled = compile_graph(model, model.network, name, pictures, GraphOptions(alpha=True))
    cost = measure_cost(compiled.proto, compile_prediction_graph(model, pictures), pictures, 1)
    image = torch.from_numpy(pictures[:ROWS])
    with torch.no_grad():
        expected = model(image).softmax(1).numpy()
    target = torch.from_numpy(expected.argmax(1)[:, None])
    _, probabilities, cam, alpha = open_session(compiled.proto)(image.numpy(), target.numpy())
    exact = copy.deepcopy(model).double()
    truth, rounded = (
        compute_gradcam(net, image, target, find_layer(net.network, name)).cam.numpy()
        for net in (exact, model)
    )
    weight, maps, final = reference(model, name, image, target[:, 0])
    found = np.stack([resize_and_normalize(np.maximum(row, 0), (size, size)) for row in cam[:, 0]])
    figures = (
        np.abs(probabilities - expected).max(),
        apart(alpha[:, 0], weight),
        apart(cam[:, 0], maps),
        np.abs(found - final).max(),
        apart(rounded, truth),
    )
    shape = f"{cam.shape[2]}x{cam.shape[3]}"
    return (
        f"| `{architecture}` | {weights} | `{name}` | {shape} | "
        f"{compiled.plan.compiler} | {' | '.join(f'{value:.0e}' for value in figures)} | "
        f"{cost['ratio']:.2f} |"
    )


def load(architecture: str, size: int) -> tuple[Classifier, Pixels, str]:
    """The network, pictures for it, and whether its weights are "real" or "random"."""
    torch.manual_seed(0)
    file = get_data_folder() / "weights" / f"{architecture}_imagenet.npz"
    wanted = replace(get_torchvision_input(architecture), height=size, width=size, resize=size)
    model = build_classifier(architecture, 1000, wanted, {})
    pictures = generate_images(12, size, size, 3)
    if not file.exists():
        settle(model, pictures)
        return model, pictures, "random"
    load_into_network(model.network, read_state_dict(file))
    return model.eval(), pictures, "real"


def line_of_methods(architecture: str, layer: str | None, size: int) -> str:
    """HiResCAM's deviation from torch in 64 bits and the cost of both methods, as a row."""
    model, pictures, weights = load(architecture, size)
    name = layer or get_default_layer(model.network)
    compiled = [
        compile_graph(model, model.network, name, pictures, GraphOptions(method=method))
        for method in METHODS
    ]
    plan = compiled[1].plan
    if plan.method == "gradcam":
        return f"| `{architecture}` | {weights} | `{name}` | | the same map |" + " |" * 4
    plain = compile_prediction_graph(model, pictures)
    costs = [measure_cost(graph.proto, plain, pictures, 1)["ratio"] for graph in compiled]
    image = torch.from_numpy(pictures[:ROWS])
    target = torch.arange(ROWS)[:, None]
    cam = open_session(compiled[1].proto)(image.numpy(), target.numpy())[2]
    truth, rounded = (
        compute_gradcam(net, image, target, find_layer(net.network, name), "hirescam").cam.numpy()
        for net in (copy.deepcopy(model).double(), model)
    )
    shape = f"{cam.shape[2]}x{cam.shape[3]}"
    return (
        f"| `{architecture}` | {weights} | `{name}` | {shape} | {plan.compiler} | "
        f"{apart(cam[:, 0], truth[:, 0]):.0e} | {apart(rounded[:, 0], truth[:, 0]):.0e} | "
        f"{costs[0]:.2f} | {costs[1]:.2f} |"
    )


def reference(
    model: Classifier, name: str, image: torch.Tensor, target: torch.Tensor
) -> tuple[Array, Array, Array]:
    """What pytorch-grad-cam finds: alpha (N, K), cam (N, h, w), the final map (N, H, W)."""
    model.requires_grad_(True)
    cam = GradCAM(model.network, [find_layer(model.network, name)])
    final = cam(model.preprocess(image), [ClassifierOutputTarget(int(c)) for c in target])
    held = cam.activations_and_grads
    a, gradient = (kept[0].detach().numpy() for kept in (held.activations, held.gradients))
    weight = gradient.mean((2, 3))
    return weight, (weight[:, :, None, None] * a).sum(1), final


def apart(found: Array, expected: Array) -> float:
    """The largest deviation, as a share of the row's largest value."""
    axes = tuple(range(1, expected.ndim))
    size = np.abs(expected).max(axes, keepdims=True)
    return float((np.abs(found - expected) / size).max())


def keep(row: str, name: str) -> None:
    """Put a row into a table of the page, in the place of the one for this network and layer."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = PAGE.read_text().partition(begin)
    table, _, after = rest.partition(end)
    rows = {key(old): old for old in table.splitlines()[2:]} | {key(row): row}
    order = {f"`{name}`": place for place, name in enumerate(EARLIER)}
    lines = sorted(rows, key=lambda known: order.get(known[0], len(order)))
    body = "".join(f"{rows[known]}\n" for known in lines)
    head = HEAD if name == PARITY else METHODS_HEAD
    PAGE.write_text(f"{before}{begin}{head}{body}{end}{after}")


def key(row: str) -> tuple[str, str]:
    """The network and the layer of a row."""
    cells = row.split(" | ")
    return cells[0].strip("| "), cells[2]


def main() -> None:
    """A row as soon as it is known; a network that can't be exported is one, too."""
    named = [name for name in sys.argv[1:] if name != "--methods"]
    compares = "--methods" in sys.argv
    for architecture in named or EARLIER:
        size = 107 if architecture == "inception_v3" else 96
        for layer in (None, EARLIER.get(architecture)):
            try:
                row = (line_of_methods if compares else line)(architecture, layer, size)
            except Exception as fault:
                said = str(fault).splitlines()[0][:150]
                row = f"| `{architecture}` | - | `{layer}` | not exported: {said} |" + " |" * 7
            print(row, flush=True)  # noqa: T201
            keep(row, METHODS_TABLE if compares else PARITY)


if __name__ == "__main__":
    main()
