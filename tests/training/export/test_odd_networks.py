"""Networks as people have them are imported if that is exact, or refused with the cause."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from tests.training import odd_networks
from training.errors import UserError
from training.export.import_network import ImportRequest, build_network, import_network
from training.gradcam.plan import make_plan
from training.gradcam.reference import compute_gradcam, find_layer, prepare_network
from training.graph.compilation import compile_graph
from training.graph.session import open_session
from training.imaging.preprocessing import Input
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier, build_classifier

SIZE = 24
WANTED = Input("RGB", SIZE, SIZE, SIZE)


def make_request(tree: Path, name: str, labels: int = 3, **changes: Any) -> ImportRequest:
    """A request for one of the odd networks, with as many labels."""
    file = tree / "labels.txt"
    file.write_text("".join(f"label {i}\n" for i in range(labels)))
    fields: dict[str, Any] = {
        "architecture": f"tests.training.odd_networks:{name}", "weights": None, "labels": file,
        "size": SIZE, "resize": None, "mean": None, "std": None, "task": "multiclass",
        "pictures": None, "origin": "", "license": "MIT", "to": tree / "models", "name": None,
        "version": None, "layer": "features", "precision": "fp32", "maps": 0,
    }  # fmt: skip
    return ImportRequest(**(fields | changes))


def load(tree: Path, name: str, labels: int = 2, **changes: Any) -> Classifier:
    """The network as `import` prepares it for its export."""
    torch.manual_seed(0)
    names = tuple(f"label {i}" for i in range(labels))
    return build_network(make_request(tree, name, labels, **changes), names, WANTED)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("squeezed", r"logits of shape \(N, K\).* For one picture it returns \(3,\). Remove sq"),
        ("map_of_logits", r"it returns \(1, 8, 24, 24\)"),
        ("returns_tuple", "returns a tuple. It must return logits alone"),
        ("returns_named_tuple", "returns a Answer. It must return logits alone"),
        ("returns_dictionary", "returns a dict. It must return logits alone"),
        ("returns_object", "returns a SimpleNamespace. It must return logits alone"),
        ("ends_with_softmax_function", "ends with a softmax.* Return the logits before it"),
        ("dropout_left_on", r"draws random numbers in eval\(\).* training=self.training"),
        ("adds_noise", r"draws random numbers in eval\(\)"),
        ("counts_its_calls", r"changes from pass to pass in eval\(\)"),
        ("norm_of_the_batch", "The norm 'features.1' uses the statistics of the batch"),
        ("scaled_by_the_batch", "must treat each picture alone"),
        ("scripted", "it is TorchScript. Return the network without torch.jit.script"),
        ("scripted_part", "its module 'features.2' is TorchScript"),
        ("two_inputs", r"takes 2 inputs \(x, size\)"),
        ("vision_transformer", "24 x 24 x 3: AssertionError: Wrong image height"),
        ("raises", "raised FileNotFoundError: no such file: backbone.pth"),
        ("ends_the_program", "raised SystemExit: usage"),
        ("takes_an_argument", "called without arguments, but missing .* 'classes'"),
        ("detached", "No gradient of the logits reaches the target layer"),
        ("without_gradients", "No gradient of the logits reaches the target layer"),
        ("casts_to_float", "does not run in 64 bits.* without dtype=torch.float32 and float"),
        ("own_gradient", "After 'features' .* a gradient of its own, such as a torch.autograd"),
        ("deformable_after", "After 'features' .* a gradient of its own"),
        pytest.param("deformable_before", "does not support 'DeformConv'", marks=pytest.mark.slow),
    ],
)
def test_what_cannot_be_imported_is_refused_with_its_cause(
    tmp_path: Path, name: str, sentence: str
) -> None:
    """Nothing is written."""
    request = make_request(tmp_path, name)
    with pytest.raises(UserError, match=sentence) as refused:
        import_network(request)
    assert len(str(refused.value).splitlines()) == 1
    assert not request.to.exists()


def test_wrappers_and_computed_weights_are_taken_off_exactly() -> None:
    """Compiled, parallel, pruned and normed parts, no_grad, constants and caches, all in one."""
    model = build_classifier("tests.training.odd_networks:wrapped", 3, WANTED, {}).eval()
    pictures = generate_images(5, SIZE, SIZE, 3)
    before = model.predict(pictures)
    names = [name for name, _ in model.network.named_modules()]
    assert not [name for name in names if "_orig_mod" in name or "module" in name]
    compiled = compile_graph(model, model.network, "features", pictures)
    target = np.array([[0, 2], [1, 1], [2, 0], [0, 1], [2, 2]])
    logits, _, cam = open_session(compiled.proto)(pictures, target)
    assert np.allclose(logits, before, atol=1e-5)
    layer = find_layer(model.network, "features")
    inputs = torch.from_numpy(pictures), torch.from_numpy(target)
    expected = compute_gradcam(model, *inputs, layer).cam.numpy()
    assert np.abs(expected).max() > 0
    assert np.abs(cam - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_network_in_16_bits_is_computed_in_32(tmp_path: Path) -> None:
    """Its weights are the same numbers."""
    assert load(tmp_path, "half_precision", 3)(torch.zeros(1, SIZE, SIZE, 3)).dtype is torch.float32


@pytest.mark.parametrize(
    ("name", "compiler"),
    [
        ("one_output", "closed-form"),
        ("sigmoid_layer", "closed-form"),
        ("one_output_of_a_convolution", "backward"),
    ],
)
def test_one_output_becomes_two_labels(tmp_path: Path, name: str, compiler: str) -> None:
    """The second label has the probability sigmoid(z), and its map is that of z."""
    torch.manual_seed(0)
    one = Classifier(WANTED, getattr(odd_networks, name)()).eval()
    two = load(tmp_path, name)  # with the same seed
    pictures = torch.from_numpy(generate_images(4, SIZE, SIZE, 3))
    with torch.no_grad():
        z = one(pictures)
        expected = z if name == "sigmoid_layer" else z.sigmoid()
        assert torch.allclose(two(pictures).softmax(1)[:, 1:], expected, atol=1e-6)
    if name == "sigmoid_layer":
        one.network.set_submodule("sigmoid", torch.nn.Identity())
    target = torch.zeros(4, 1, dtype=torch.int64)
    maps = [
        compute_gradcam(model, pictures, target + i, find_layer(model.network, "features")).cam
        for model, i in ((one, 0), (two, 1), (two, 0))
    ]
    assert torch.allclose(2 * maps[1], maps[0], atol=1e-6)
    assert torch.allclose(maps[2], -maps[1], atol=1e-6)
    prepare_network(two)
    assert make_plan(two, two.network, "features", pictures).compiler == compiler


def test_a_sigmoid_network_is_exported_with_two_labels(tmp_path: Path) -> None:
    """The file's probabilities add up to one."""
    folder = import_network(make_request(tmp_path, "sigmoid_layer", 2))
    proto = onnx.load(folder / "model.onnx")
    card = json.loads(proto.metadata_props[0].value)
    assert card["labels"] == ["label 0", "label 1"]
    run = open_session(proto)
    found = run(generate_images(3, SIZE, SIZE, 3), np.zeros((3, 1), np.int64))[1]
    assert np.allclose(found.sum(1), 1)


def test_one_output_and_one_label_are_one_answer_of_several_labels(tmp_path: Path) -> None:
    """With --task multilabel; else the only label would always be right."""
    with pytest.raises(UserError, match=r"one output and one label.* --task multilabel"):
        import_network(make_request(tmp_path, "one_output", 1))
    folder = import_network(make_request(tmp_path, "sigmoid_layer", 1, task="multilabel"))
    found = json.loads(onnx.load(folder / "model.onnx").metadata_props[0].value)
    assert len(found["golden"]) == 2
    assert all(0 < p < 1 for test in found["golden"] for p in test["probabilities"])


def test_probabilities_by_a_function_are_refused(tmp_path: Path) -> None:
    """A sigmoid that is no layer cannot be left out."""
    with pytest.raises(UserError, match=r"ends with a sigmoid.* Return the logits before it"):
        import_network(make_request(tmp_path, "sigmoid_function", 2))


def test_a_softmax_layer_at_the_end_is_left_out(tmp_path: Path) -> None:
    """The probabilities are the network's own."""
    torch.manual_seed(0)
    network = odd_networks.softmax_layer()
    model = load(tmp_path, "softmax_layer", 3)
    pictures = torch.from_numpy(generate_images(4, SIZE, SIZE, 3))
    with torch.no_grad():
        expected = Classifier(WANTED, network).eval()(pictures)
        assert torch.allclose(model(pictures).softmax(1), expected, atol=1e-6)
        assert not math.isclose(float(model(pictures)[0].sum()), 1, abs_tol=1e-3)


def test_a_missing_target_layer_names_the_command_that_lists_them(tmp_path: Path) -> None:
    """It is `layers`."""
    with pytest.raises(UserError, match=r"`python -m training layers`, and name one with --layer"):
        import_network(make_request(tmp_path, "plain", layer=None))
