"""Graphs in 8 bits are made in different ways, and lose what their ways say."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from tests.training.conftest import COLOR, Small
from training.artifact.parity import compute_cosine
from training.graph.body import extract_body, name_nodes
from training.graph.compilation import GraphOptions, compile_graph
from training.graph.int8.activations import (
    SAMPLED,
    Activations,
    record_activations,
    take_least_error,
    take_min_max,
    take_percentile,
)
from training.graph.int8.bias_correction import sum_rounding_errors
from training.graph.int8.blocks import divide_into_blocks
from training.graph.int8.candidates import Candidate, CandidateGraphs
from training.graph.int8.processor import has_vnni
from training.graph.session import open_session, run_for_top1
from training.imaging.preprocessing import Pixels
from training.imaging.synthetic import generate_images
from training.networks.classifier import Classifier


class Residual(nn.Module):
    """Two convolutions beside a third, then a convolution alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 1))
        self.beside = nn.Conv2d(6, 6, 1)
        self.last = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        last: torch.Tensor = self.last(torch.relu(self.inner(x) + self.beside(x)))
        return last


@pytest.fixture(scope="module")
def full() -> onnx.ModelProto:
    """A graph in 32 bits of a network with a branch before its target layer."""
    torch.manual_seed(2)
    head = (Residual(), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    model = Classifier(COLOR, Small(nn.Sequential(*head))).eval()
    options = GraphOptions(precision="auto")
    pictures = generate_images(5, 32, 32, 3)
    return compile_graph(model, model.network, "head.1", pictures, options).proto


def count(proto: onnx.ModelProto, op_type: str) -> int:
    return sum(node.op_type == op_type for node in proto.graph.node)


def test_blocks_end_where_one_tensor_passes(full: onnx.ModelProto) -> None:
    """The branch and what is beside it are one block. Preprocessing belongs to the first."""
    body = extract_body(name_nodes(full))
    blocks = divide_into_blocks(body)
    kinds = [[name.partition("_")[0] for name in block] for block in blocks]
    assert [block.count("Conv") for block in kinds] == [1, 1, 3, 1]
    assert [name for block in blocks for name in block] == [node.name for node in body.graph.node]


def test_blocks_that_are_kept_stay_in_32_bits(full: onnx.ModelProto, colors: Pixels) -> None:
    """Without any, all six convolutions are in 8 bits. With all of them none is."""
    graphs = CandidateGraphs(full, colors)
    biases = count(full, "Conv")
    for kept, quantized in (((), 6), ((2,), 3), ((0, 1, 2, 3), 0)):
        proto = graphs.make(Candidate(kept=kept))
        makers = {output: node.op_type for node in proto.graph.node for output in node.output}
        convolutions = [node for node in proto.graph.node if node.op_type == "Conv"]
        found = sum(makers.get(node.input[1]) == "DequantizeLinear" for node in convolutions)
        assert (len(convolutions), found) == (biases, quantized)
    same = open_session(graphs.make(Candidate(kept=(0, 1, 2, 3))))
    for one, other in zip(
        *(run_for_top1(r, colors, 1) for r in (open_session(full), same)), strict=True
    ):
        assert np.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "candidate",
    [
        Candidate(ranges="percentile"),
        Candidate(ranges="least error", pictures=4),
        Candidate(eighth_bit=True),
        Candidate(corrected=True),
    ],
    ids=str,
)
def test_each_way_gives_nearly_the_same_maps(
    full: onnx.ModelProto, colors: Pixels, candidate: Candidate
) -> None:
    expected = run_for_top1(open_session(full), colors, 1)[2]
    found = run_for_top1(open_session(CandidateGraphs(full, colors).make(candidate)), colors, 1)[2]
    assert compute_cosine(expected, found) > 0.99


def test_an_eighth_bit_makes_larger_weights(full: onnx.ModelProto, colors: Pixels) -> None:
    graphs = CandidateGraphs(full, colors)
    for eighth_bit, largest in ((False, 64), (True, 127)):
        tensors = graphs.make(Candidate(eighth_bit=eighth_bit)).graph.initializer
        weights = [onnx.numpy_helper.to_array(tensor) for tensor in tensors]
        assert max(np.abs(w.astype(int)).max() for w in weights if w.dtype == np.int8) == largest


def test_activations_are_those_of_the_graph(full: onnx.ModelProto, colors: Pixels) -> None:
    """The means of a tensor's channels lie between its smallest and largest value."""
    body = extract_body(name_nodes(full))
    found = record_activations(body, colors)
    [name] = [value.name for value in body.graph.output]
    values = found[name]
    assert values.sample.shape == (len(colors), SAMPLED)
    assert values.means.shape == (len(colors), 6)
    assert (values.low[:, None] <= values.means).all()
    assert (values.means <= values.high[:, None]).all()


def test_ranges_leave_out_rare_values() -> None:
    """One of a million values is far from the others."""
    sample = np.random.default_rng(0).normal(size=(100, 10_000)).astype(np.float32)
    sample[0, 0] = 1000
    values = Activations(sample.min(1), sample.max(1), sample, sample[:, :0])
    assert take_min_max(values)[1] == 1000
    low, high = take_percentile(values)
    assert -4 < low < -3 < 3 < high < 4
    assert take_least_error(values)[1] < 1000
    few = values.first(1)
    assert (len(few.low), len(few.sample)) == (1, 1)


def test_biases_are_corrected_by_what_rounding_adds_to_the_mean() -> None:
    """The sum over a convolution of pictures of one colour is known exactly, also in groups."""
    rng = np.random.default_rng(0)
    for groups in (1, 2):
        weight = rng.normal(size=(4, 4 // groups, 3, 3)).astype(np.float32)
        mean = rng.normal(size=4).astype(np.float32)
        scale = np.abs(weight).max((1, 2, 3), keepdims=True) / 64
        rounded = (np.rint(weight / scale) * scale).astype(np.float32)
        image = torch.from_numpy(mean)[None, :, None, None].expand(1, 4, 3, 3)
        one, other = (
            torch.conv2d(image, torch.from_numpy(w), groups=groups)[0, :, 0, 0]
            for w in (weight, rounded)
        )
        assert np.allclose(other - one, sum_rounding_errors(weight, 64, mean), atol=1e-5)


def test_the_processor_says_whether_it_has_vnni(tmp_path: Path) -> None:
    for flags, there in (("flags : avx2 avx_vnni", True), ("flags : avx2", False), ("", False)):
        (tmp_path / "cpuinfo").write_text(flags)
        assert has_vnni(tmp_path / "cpuinfo") == there
    assert not has_vnni(tmp_path / "missing")
