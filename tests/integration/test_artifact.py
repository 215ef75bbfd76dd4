"""The service gives the answers of torch for the same artifact, to the pixel.

This is the only test module that imports both packages.
"""

import asyncio
import copy
import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from service.artifact.card import InputSpec as ServedInput
from service.imaging.decoding import decode_image, open_image
from tests.contract.artifacts import wait_loaded
from tests.reliability.client import Client, Reply, connect
from tests.reliability.photographs import make_request
from tests.server import ROOT, Server, wait_until
from tests.warm_process import start_worker
from training.artifact.card import ModelInfo
from training.artifact.golden import encode_png, pad_to_wider_image
from training.export.pipeline import export_model
from training.export.request import ExportRequest
from training.imaging.preprocessing import Input, load_pixels
from training.networks.classifier import Classifier, build_classifier, get_default_layer

MODELS_DIR = ROOT / "models"
LABELS = tuple("0123456789")
DIGITS = Input("L", 28, 28, 28, "center", "bilinear", (0.0,), (0.3081,), True)
PRECISIONS = {"w16": 1e-3, "fp16": 1e-2, "int8": 1e-1}  # largest difference of probabilities
Pixels = NDArray[np.uint8]

pytestmark = pytest.mark.usefixtures("cached_translations")


class Served(NamedTuple):
    """A network in torch, and the service that runs its artifact."""

    model: Classifier
    server: Server
    export: Callable[[str], None]  # in another precision


@pytest.fixture(scope="module")
def samples() -> Pixels:
    """Ten dark pictures (10, 28, 28, 1) with bright strokes."""
    generator = np.random.default_rng(0)
    drawn = np.zeros((10, 28, 28, 1), np.uint8)
    for picture in drawn:
        for _ in range(3):
            row, column = generator.integers(4, 20, 2)
            picture[row : row + generator.integers(2, 8), column : column + 3] = 255
    return drawn


@pytest.fixture(scope="module")
def served(samples: Pixels, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An exported LeNet-5 with seeded weights, scaled so that labels differ, and its service."""
    torch.manual_seed(3)
    model = build_classifier("lenet5", 10, DIGITS, {})
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(2.5)
    about = ModelInfo("lenet5", "lenet5", LABELS, DIGITS, "multiclass", "Apache-2.0", {})
    tree = tmp_path_factory.mktemp("models")
    layer = get_default_layer(model.network)
    request = ExportRequest(
        about, model, layer, samples, tree, unmeasured="untrained", say=lambda _: None
    )
    export_model(request)

    def export(precision: str) -> None:
        lower = replace(
            request,
            info=replace(about, name=f"lenet5-{precision}"),
            model=copy.deepcopy(model),
            precision=precision,
            calibration=samples,
        )
        export_model(lower)

    with start_worker(
        tree, tmp_path_factory.mktemp("server"), model_poll_seconds=0.2, default_model="lenet5"
    ) as server:
        server.wait_ready()
        yield Served(model, server, export)


def encode(pixels: Pixels, file_format: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, file_format)
    return file.getvalue()


def explain(server: Server, pixels: Pixels, **parameters: Any) -> dict[str, Any]:
    answer = server.client.post(
        "/gradcam",
        content=encode(pixels),
        params={"top_k": 0, **parameters},
        headers={"accept": "application/json"},
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def run_pytorch_grad_cam(
    model: Classifier, pixels: Pixels, target: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return its cam before ReLU (h, w) and its final map (28, 28)."""
    # Imported here, since pytorch_grad_cam takes seconds to import.
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    reference = GradCAM(model.network, [model.network.features.act2])  # type: ignore[union-attr]
    with reference:
        prepared = model.preprocess(torch.from_numpy(pixels[np.newaxis])).requires_grad_()
        final = reference(prepared, [ClassifierOutputTarget(target)])[0]
        [gradients] = reference.activations_and_grads.gradients  # (1, K, h, w)
        [activations] = reference.activations_and_grads.activations  # (1, K, h, w)
        alpha = gradients.numpy().mean((2, 3))  # (1, K)
        cam = np.einsum("nk,nkij->ij", alpha, activations.detach().numpy())
    return cam, final


def test_probabilities_over_http_equal_those_of_torch(served: Served, samples: Pixels) -> None:
    with torch.no_grad():
        expected = served.model(torch.from_numpy(samples)).softmax(1).numpy()
    for pixels, row in zip(samples, expected, strict=True):
        found = {
            p["index"]: p["probability"] for p in explain(served.server, pixels)["predictions"]
        }
        assert [found[k] for k in range(10)] == pytest.approx(row.tolist(), abs=1e-6)


@pytest.mark.parametrize(
    "precision",
    ["int8", *(pytest.param(other, marks=pytest.mark.slow) for other in ("w16", "fp16"))],
)
def test_models_of_lower_precision_are_served_like_any_model(
    served: Served, samples: Pixels, precision: str
) -> None:
    """The model is ready after its golden test. Probabilities and map are near those of 32 bits."""
    served.export(precision)

    def find_versions() -> list[dict[str, Any]]:
        answer = served.server.client.get(f"/models/lenet5-{precision}").json()
        return list(answer.get("versions", []))

    wait_until(lambda: [version["state"] for version in find_versions()] == ["ready"])
    [version] = find_versions()
    assert version["card"]["precision"] == precision
    for pixels in samples[:4]:
        full, small = (
            explain(served.server, pixels, model=name, target_index=7)
            for name in ("lenet5", f"lenet5-{precision}")
        )
        found = {p["label"]: p["probability"] for p in small["predictions"]}
        for prediction in full["predictions"]:
            off = abs(found[prediction["label"]] - prediction["probability"])
            assert off <= PRECISIONS[precision]
        one, other = (np.ravel(answer["explanations"][0]["cam"]) for answer in (full, small))
        assert one @ other >= 0.97 * np.linalg.norm(one) * np.linalg.norm(other)


def test_cam_over_http_equals_that_of_pytorch_grad_cam(served: Served, samples: Pixels) -> None:
    for pixels in samples[:4]:
        for target in (0, 7):
            expected, _ = run_pytorch_grad_cam(served.model, pixels, target)
            [explanation] = explain(served.server, pixels, target_index=target)["explanations"]
            difference = np.abs(expected - np.array(explanation["cam"])).max()
            assert difference <= 1e-5 * np.abs(expected).max()


def test_the_drawn_map_equals_that_of_pytorch_grad_cam(served: Served, samples: Pixels) -> None:
    for pixels in samples[:4]:
        answer = served.server.client.post(
            "/gradcam",
            content=encode(pixels),
            params={"view": "heatmap", "colormap": "gray", "size": 0, "target_index": 7},
        )
        drawn = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L")) / 255
        _, expected = run_pytorch_grad_cam(served.model, pixels, 7)
        assert np.abs(expected - drawn).max() <= 1.5 / 255  # one level and its rounding


def test_dark_on_light_gets_the_same_answer_as_light_on_dark(
    served: Served, samples: Pixels
) -> None:
    for pixels in samples[:4]:
        expected, found = explain(served.server, pixels), explain(served.server, 255 - pixels)
        assert found["predictions"] == expected["predictions"]
        assert found["explanations"] == expected["explanations"]


@pytest.mark.parametrize("size", [(28, 28), (640, 427), (427, 640), (1000, 30), (224, 225)])
@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize(
    ("file_format", "largest", "average"),
    [("PNG", 2, 0.1), ("JPEG", 4, 0.7)],  # a large JPEG is decoded at a fraction of its size
)
def test_the_service_computes_the_same_pixels_as_training(
    size: tuple[int, int], mode: str, file_format: str, largest: int, average: float
) -> None:
    generator = np.random.default_rng(1)
    coarse = Image.fromarray(generator.integers(0, 255, (12, 12, 3), np.uint8))
    file = io.BytesIO()
    coarse.resize(size, Image.Resampling.BICUBIC).convert(mode).save(file, file_format, quality=95)
    for wanted in (DIGITS, Input()):
        expected = load_pixels(file.getvalue(), wanted)
        card_input = ServedInput.model_validate(wanted.to_card())
        found = decode_image(open_image(file.getvalue(), 10**7), card_input).pixels
        difference = np.abs(expected.astype(int) - found.astype(int))
        assert difference.max() <= largest
        assert difference.mean() <= average


def read_mnist_test(folder: Path) -> tuple[Pixels, NDArray[np.uint8]]:
    """Return the 10,000 test pictures (10000, 28, 28) and their labels."""
    with gzip.open(folder / "t10k-images-idx3-ubyte.gz") as file:
        images = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    with gzip.open(folder / "t10k-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(), np.uint8, offset=8)
    return images, labels


def test_the_service_gets_as_many_digits_right_as_torch_and_the_card(
    data_dir: Path, bundled_worker: Server
) -> None:
    images, labels = read_mnist_test(data_dir / "mnist")
    wait_loaded(bundled_worker)
    correct = 0
    for start in range(0, len(images), 64):
        files = [("image", encode(image)) for image in images[start : start + 64]]
        answer = bundled_worker.client.post(
            "/predict/batch", params={"model": "lenet5"}, files=files
        )
        predicted = [result["predictions"][0]["index"] for result in answer.json()["results"]]
        correct += int((np.array(predicted) == labels[start : start + 64]).sum())
    model = onnx.load(str(MODELS_DIR / "lenet5" / "1" / "model.onnx"))
    card = json.loads(next(p.value for p in model.metadata_props if p.key == "sightglass"))
    assert card["checks"]["test_correct_torch"] == correct
    assert card["metrics"]["correct"] == correct
    assert card["metrics"]["accuracy"] >= 0.992


def test_an_answer_names_the_layer_and_the_method_of_its_file(bundled_worker: Server) -> None:
    wait_loaded(bundled_worker)
    picture = (MODELS_DIR.parent / "docs" / "examples" / "seven.png").read_bytes()
    expected = {
        "lenet5": ("features.act2", "gradcam"),
        "lenet5-relu": ("features.pool1", "hirescam"),
    }
    for name, origin in expected.items():
        answer = bundled_worker.client.post(
            "/gradcam",
            params={"model": name},
            content=picture,
            headers={"accept": "application/json"},
        )
        [explanation] = answer.json()["explanations"]
        assert (explanation["layer"], explanation["method"]) == origin


def test_digits_on_gray_paper_are_recognized(data_dir: Path, bundled_worker: Server) -> None:
    images, labels = read_mnist_test(data_dir / "mnist")
    wait_loaded(bundled_worker)
    ink, paper = 70, 210
    drawn = (paper - (paper - ink) * (images[:640] / 255)).astype(np.uint8)
    predicted: list[int] = []
    for start in range(0, len(drawn), 64):
        files = [("image", encode(image)) for image in drawn[start : start + 64]]
        answer = bundled_worker.client.post(
            "/predict/batch", params={"model": "lenet5"}, files=files
        )
        predicted += [result["predictions"][0]["index"] for result in answer.json()["results"]]
    assert (np.array(predicted) == labels[:640]).mean() >= 0.98


def test_a_thousand_mixed_requests_get_their_own_answers_and_share_batches(
    served: Served, samples: Pixels
) -> None:
    expected = [explain(served.server, pixels, target_index=3) for pixels in samples]
    contents = [encode(pixels) for pixels in samples]
    calls = ("/predict?top_k=0", "/gradcam?top_k=0&target_index=3")
    before = read_batches(served.server)

    async def ask_all() -> list[Reply]:
        slots = asyncio.Semaphore(64)

        async def ask(client: Client, number: int) -> Reply:
            content = contents[number % len(contents)]
            request = make_request(calls[number % 2], content, "Accept: application/json")
            async with slots:
                return await client.send(request)

        async with connect(served.server.port) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(1000)))

    for number, reply in enumerate(asyncio.run(ask_all())):
        assert reply.status == 200, reply
        answer, right = json.loads(reply.body), expected[number % len(samples)]
        if number % 2:
            assert answer == approximate(right)
        else:
            assert answer["predictions"] == approximate(right["predictions"])
    batches, rows = (
        after - b for after, b in zip(read_batches(served.server), before, strict=True)
    )
    assert rows == 1000
    assert batches < 900


def approximate(value: Any) -> Any:
    """Compare floats approximately, because their last digits depend on the batch size."""
    if isinstance(value, dict):
        return {key: approximate(item) for key, item in value.items()}
    if isinstance(value, list):
        return [approximate(item) for item in value]
    return pytest.approx(value, rel=1e-4, abs=1e-6) if isinstance(value, float) else value


def read_batches(server: Server) -> tuple[int, int]:
    """Return the number of batches and of rows in the metric."""
    lines = server.client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("sightglass_batch"))
    return tuple(  # type: ignore[return-value]
        int(float(values[f'sightglass_batch_size_{part}{{model="lenet5"}}']))
        for part in ("count", "sum")
    )


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "wanted",
    [
        Input(),
        Input("RGB", 128, 128, 128),
        Input("L", 28, 28, 28, dark_on_light=True),
        Input("RGB", 20, 30, None, None),
    ],
)
def test_the_golden_pictures_have_the_same_pixels_in_training_and_service(
    wanted: Input, turned: bool
) -> None:
    """Rotated pictures must not be resized: one level of difference can change a map."""
    drawn = np.random.default_rng(0).integers(0, 256, (wanted.height, wanted.width, 3), np.uint8)
    sample = drawn[..., : wanted.channels]
    content = encode_png(pad_to_wider_image(sample, wanted, turned), turned)
    served = decode_image(
        open_image(content, 1 << 20), ServedInput.model_validate(wanted.to_card())
    )
    assert np.array_equal(load_pixels(content, wanted), served.pixels)
