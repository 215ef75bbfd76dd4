"""Not a test: prints the table of docs/architectures.md, a line for each network and layer.

Command: python -m tests.training.survey [architecture …]
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from tests.training.test_families import settle
from training import classics, export, gradcam, models, report, scenes, verify, weights
from training.config import data_root

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
    "mobilenet_v3_large": "features.12",
    "efficientnet_b0": "features.5",
    "regnet_y_400mf": "trunk_output.block3",
    "mnasnet1_0": "layers.11",
    "shufflenet_v2_x1_0": "stage3",
    "convnext_tiny": "features.5",
}
ROWS = 4


def line(architecture: str, layer: str | None, size: int) -> str:
    """Parity with pytorch-grad-cam and the cost, as a row of the table."""
    torch.manual_seed(0)
    file = data_root() / "weights" / f"{architecture}_imagenet.npz"
    wanted = replace(classics.takes(architecture), height=size, width=size, resize=size)
    model = models.build(architecture, 1000, wanted, {})
    pictures = scenes.draw(12, size, size, 3)
    real = file.exists()
    if real:
        weights.fill(model.network, weights.read(Path(file)))
        model.eval()
    else:
        settle(model, pictures)
    name = layer or models.default_layer(model.network)
    compiled = export.compile_graph(model, model.network, name, pictures, alpha=True)
    plain = export.plain_graph(model, pictures)
    cost = verify.cost(compiled.proto, plain, pictures, 3)
    image = pictures[:ROWS]
    with torch.no_grad():
        expected = model(torch.from_numpy(image)).softmax(1).numpy()
    target = expected.argmax(1)[:, None]
    _, probabilities, cam, alpha = verify.session(compiled.proto)(image, target)
    reference = GradCAM(model.network.requires_grad_(True), [gradcam.find(model.network, name)])
    x = model.preprocess(torch.from_numpy(image))
    classes = [ClassifierOutputTarget(int(c)) for c in target[:, 0]]
    final = reference(x, classes)
    held = reference.activations_and_grads
    a, g = (v[0].detach().numpy() for v in (held.activations, held.gradients))
    weight = g.mean((2, 3))
    maps = (weight[:, :, None, None] * a).sum(1)
    found = [report.place(np.maximum(row, 0), image.shape[1:3]) for row in cam[:, 0]]
    apart = (
        np.abs(probabilities - expected).max(),
        worst(alpha[:, 0], weight),
        worst(cam[:, 0], maps),
        np.abs(np.stack(found) - final).max(),
    )
    shape = f"{cam.shape[2]}x{cam.shape[3]}"
    figures = " | ".join(f"{value:.0e}" for value in apart)
    kind = "real" if real else "random"
    return (
        f"| {architecture} | {kind} | `{name}` | {shape} | {compiled.plan.compiler} | "
        f"{figures} | {cost['ratio']:.2f} |"
    )


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest deviation, as a share of the row's largest value."""
    axes = tuple(range(1, expected.ndim))
    size = np.abs(expected).max(axes, keepdims=True)
    return float((np.abs(found - expected) / size).max())


def main() -> None:
    """One line each as soon as it is known."""
    for architecture in sys.argv[1:] or EARLIER:
        size = 139 if architecture == "inception_v3" else 128
        for layer in (None, EARLIER.get(architecture)):
            try:
                print(line(architecture, layer, size), flush=True)  # noqa: T201
            except Exception as fault:  # a network that can't be exported is a line, too
                said = str(fault).splitlines()[0][:150]
                print(f"| {architecture} | | `{layer}` | not exported: {said} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
