"""Compares the compiled graph in onnxruntime with pytorch-grad-cam on torch, without a server."""

import importlib.util
from collections.abc import Iterator

import numpy as np

from benchmarks.bound import CORES, decode_batch, infer, open_session, repeat
from benchmarks.material import Pictures, find_weights
from benchmarks.samples import Sample

BATCH = 8


def measure_explaining(pictures: Pictures, seconds: float) -> Iterator[Sample]:
    """Measure images per second of both with one batch size. Without torch nothing is measured."""
    if not importlib.util.find_spec("pytorch_grad_cam"):
        return
    import torch  # only this module needs torch
    from pytorch_grad_cam import GradCAM
    from torchvision.models import resnet18

    torch.set_num_threads(CORES)
    network = resnet18(weights=None)
    with np.load(find_weights(), allow_pickle=False) as weights:
        network.load_state_dict({name: torch.from_numpy(weights[name]) for name in weights.files})
    network.eval()
    images = decode_batch(pictures, BATCH)
    preprocessing = pictures.card["training"]["preprocessing"]
    mean, deviation = (torch.tensor(preprocessing[key]).view(3, 1, 1) for key in ("mean", "std"))
    batch = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - mean) / deviation
    session = open_session(pictures, CORES)

    with GradCAM(network, [network.layer4[-1]]) as rival:

        def explain_in_torch() -> int:
            return len(rival(batch, targets=None))

        for who, explain in (
            ("torch", explain_in_torch),
            ("onnx", lambda: len(infer(session, images, 1))),
        ):
            figures = {"rps": repeat(explain, 1, seconds)}
            yield Sample("explaining in process", who, BATCH, figures)
