"""Not a test: measures every family for docs/reference/architectures-measured.md.

Commands: python -m tests.training.survey [architecture …], or with --missing for rows that lack
          python -m tests.training.survey --methods [architecture …]
Cost: about half a minute a row on a quiet machine. Only the named rows are measured anew.
`--methods` compares HiResCAM with Grad-CAM where they differ.

Real weights where $SIGHTGLASS_DATA has them, else random ones with settled batch-norms. Networks
of timm need timm. Each must also run without targets and agree with torch in 64 bits.
"""

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
from training.gradcam.reference import (
    METHODS,
    compute_gradcam,
    find_layer,
    make_exact_copy,
    use_64_bits,
)
from training.graph.compilation import (
    GraphOptions,
    compile_graph,
    compile_prediction_graph,
)
from training.graph.session import measure_cost, open_session
from training.imaging.preprocessing import Pixels
from training.imaging.synthetic import generate_images
from training.networks.classifier import (
    Classifier,
    build_classifier,
    get_default_input,
    get_default_layer,
)
from training.networks.weight_files import read_state_dict
from training.networks.weights import load_into_network

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "architectures-measured.md"
REFUSED = "not exported"
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
# The side of the pictures, and what makes a network take it. Torchvision's ViT takes 224 only.
SIZES = {"inception_v3": 107, "vit_b_32": 224, "maxvit_t": 224}
RESIZABLE = {"img_size": 64}
TRANSFORMERS: dict[str, dict[str, int]] = {
    "vit_b_32": {},
    "swin_t": {},
    "swin_v2_t": {},
    "maxvit_t": {},
    "timm:vit_tiny_patch16_224": RESIZABLE,
    "timm:vit_small_patch16_dinov3": RESIZABLE,
    "timm:deit_tiny_distilled_patch16_224": RESIZABLE,
    "timm:deit3_small_patch16_224": RESIZABLE,
    "timm:eva02_tiny_patch14_224": {"img_size": 70},
    "timm:xcit_nano_12_p16_224": RESIZABLE,
    "timm:swin_tiny_patch4_window7_224": RESIZABLE,
    "timm:swinv2_cr_tiny_ns_224": RESIZABLE,
    "timm:maxvit_rmlp_pico_rw_256": RESIZABLE,
    "timm:coatnet_pico_rw_224": RESIZABLE,
    "timm:pvt_v2_b0": {},
    "timm:mobilevit_xxs": {},
    "timm:edgenext_xx_small": {},
    "timm:efficientformerv2_s0": RESIZABLE,
    "timm:mixer_s32_224": RESIZABLE,
    "timm:resmlp_12_224": RESIZABLE,
    "timm:gmlp_ti16_224": RESIZABLE,
    "timm:poolformer_s12": {},
}
OTHERS = (
    "timm:resnet50d",
    "timm:seresnet18",
    "timm:skresnet18",
    "timm:resnet50_gn",
    "timm:resnetv2_50",
    "timm:res2net50_26w_4s",
    "timm:convnextv2_atto",
    "timm:tf_efficientnet_lite0",
    "timm:mobilenetv3_small_050",
    "timm:mobilenetv4_conv_small",
    "timm:hrnet_w18_small",
    "timm:ghostnet_050",
    "timm:repvit_m0_9",
    "timm:mobileone_s0",
    "timm:regnetz_005",
    "timm:nf_resnet26",
    "timm:dla34",
    "timm:ese_vovnet19b_dw",
    "timm:cspdarknet53",
    "timm:rexnet_100",
    "timm:focalnet_tiny_srf",
)
LAYERS = {"timm:resnet50d": "layer3", "timm:resnet50_gn": "layer3"} | EARLIER
ALL = (*EARLIER, *TRANSFORMERS, *OTHERS)
ROWS = 4  # pictures compared
Array = NDArray[np.float32]


def line(architecture: str, layer: str | None) -> str:
    """Parity with torch and pytorch-grad-cam, and the cost, as a row of the table."""
    model, pictures, weights = load(architecture)
    size = pictures.shape[1]
    name = layer or get_default_layer(model.network)
    compiled = compile_graph(model, model.network, name, pictures, GraphOptions(alpha=True))
    cost = measure_cost(compiled.proto, compile_prediction_graph(model, pictures), pictures, 1)
    image = torch.from_numpy(pictures[:ROWS])
    with torch.no_grad():
        expected = model(image).softmax(1).numpy()
    target = torch.from_numpy(expected.argmax(1)[:, None])
    run = open_session(compiled.proto)
    _, probabilities, cam, alpha = run(image.numpy(), target.numpy())
    assert run(image.numpy(), target.numpy()[:, :0])[2].shape[1] == 0
    module = compiled.plan.layer
    exact = make_exact_copy(model)
    with use_64_bits():
        truth = compute_gradcam(
            exact, image, target, exact.get_submodule(f"network.{module}")
        ).cam.numpy()
    rounded = compute_gradcam(model, image, target, find_layer(model.network, module)).cam.numpy()
    assert apart(cam, truth) <= max(1e-4, 3 * apart(rounded, truth))  # as an export demands
    weight, maps, final = reference(model, module, image, target[:, 0])
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


def load(architecture: str) -> tuple[Classifier, Pixels, str]:
    """The network, pictures for it, and whether its weights are "real" or "random"."""
    torch.manual_seed(0)
    file = get_data_folder() / "weights" / f"{architecture}_imagenet.npz"
    options = TRANSFORMERS.get(architecture, {})
    size = options.get("img_size") or SIZES.get(architecture, 96)
    wanted = replace(get_default_input(architecture), height=size, width=size, resize=size)
    model = build_classifier(architecture, 1000, wanted, dict(options))
    pictures = generate_images(12, size, size, 3)
    if not file.exists():
        fill_zeros(model)
        settle(model, pictures)
        return model, pictures, "random"
    load_into_network(model.network, read_state_dict(file))
    return model.eval(), pictures, "real"


@torch.no_grad()
def fill_zeros(model: torch.nn.Module) -> None:
    """Let weights that start as zeros, as those of many last layers and norms do, be random."""
    for name, weight in model.named_parameters():
        if name.endswith("weight") and not weight.any():
            torch.nn.init.normal_(weight, std=0.02)


def line_of_methods(architecture: str, layer: str | None) -> str:
    """HiResCAM's deviation from torch in 64 bits and the cost of both methods, as a row."""
    model, pictures, weights = load(architecture)
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
    exact = make_exact_copy(model)
    with use_64_bits():
        module = exact.get_submodule(f"network.{plan.layer}")
        truth = compute_gradcam(exact, image, target, module, "hirescam").cam.numpy()
    module = find_layer(model.network, plan.layer)
    rounded = compute_gradcam(model, image, target, module, "hirescam").cam.numpy()
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
    known = {key(old): old for old in table.splitlines()[2:] if not was_refused(old, key(row)[0])}
    rows = known | {key(row): row}
    order = {f"`{name}`": place for place, name in enumerate(ALL)}
    lines = sorted(rows, key=lambda found: order.get(found[0], len(order)))
    body = "".join(f"{rows[known]}\n" for known in lines)
    head = HEAD if name == PARITY else METHODS_HEAD
    PAGE.write_text(f"{before}{begin}{head}{body}{end}{after}")


def was_refused(row: str, architecture: str) -> bool:
    """Whether a row says that this network was not exported, at whatever layer."""
    return key(row)[0] == architecture and REFUSED in row


def key(row: str) -> tuple[str, str]:
    """The network and the layer of a row."""
    cells = row.split(" | ")
    return cells[0].strip("| "), cells[2]


def main() -> None:
    """A row as soon as it is known; a network that can't be exported is one, too."""
    names = [name for name in sys.argv[1:] if not name.startswith("--")] or ALL
    done = PAGE.read_text() if "--missing" in sys.argv else ""
    compares = "--methods" in sys.argv
    for architecture in names:
        if f"| `{architecture}` |" in done:
            continue
        for layer in dict.fromkeys((None, LAYERS.get(architecture))):
            try:
                row = (line_of_methods if compares else line)(architecture, layer)
            except Exception as fault:
                said = (str(fault) or type(fault).__name__).splitlines()[0][:150]
                row = f"| `{architecture}` | - | `{layer}` | {REFUSED}: {said} |" + " |" * 7
            print(row, flush=True)  # noqa: T201
            keep(row, METHODS_TABLE if compares else PARITY)


if __name__ == "__main__":
    main()
