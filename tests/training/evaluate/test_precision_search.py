"""The search takes the first graph within bounds, and stops where there is nothing to gain."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from training.data.datasets import Split
from training.evaluate import precision_search
from training.evaluate.precision_search import (
    Search,
    find_fast_graph,
    list_with_fewer_blocks,
    spread,
)
from training.graph.compilation import CompiledGraph
from training.graph.int8.candidates import Candidate
from training.graph.openvino import has_openvino
from training.graph.session import open_session, run_for_top1
from training.imaging.preprocessing import Pixels

Labels = NDArray[np.int64]


@pytest.fixture
def labels(compiled: CompiledGraph, grays: Pixels) -> Labels:
    """What the graph in 32 bits answers."""
    return np.asarray(run_for_top1(open_session(compiled.proto), grays, 0)[0].argmax(1))


@pytest.fixture(autouse=True)
def fixed_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every graph is twice as fast as that in 32 bits. The processor has VNNI, and no OpenVINO."""
    monkeypatch.setattr(precision_search, "measure_latencies", lambda *_: [2.0, 1.0])
    monkeypatch.setattr(precision_search, "has_vnni", lambda: True)
    monkeypatch.setattr(precision_search, "has_openvino", lambda: False)


def search(
    compiled: CompiledGraph,
    grays: Pixels,
    labels: Labels,
    monkeypatch: pytest.MonkeyPatch,
    *verdicts: list[str],
) -> tuple[Search, list[str]]:
    """Search with the given verdicts, the last of which holds for all further graphs."""
    left = list(verdicts)
    monkeypatch.setattr(
        precision_search,
        "find_missed_bounds",
        lambda _: left.pop(0) if len(left) > 1 else left[0],
    )
    said: list[str] = []
    return find_fast_graph(compiled.proto, grays, Split(grays, labels), said.append), said


def test_the_first_graph_within_bounds_is_judged_again_on_all_pictures(
    compiled: CompiledGraph, grays: Pixels, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plain one misses a bound, as do ranges that were chosen, with 7 bits, but not with 8."""
    monkeypatch.setattr(precision_search, "SCREENED", 6)
    found, said = search(compiled, grays, labels, monkeypatch, ["accuracy"], ["accuracy"], [])
    assert [one.candidate.eighth_bit for one in found.tried] == [False, False, True]
    assert [one.figures["pictures"] for one in found.tried] == [6, 6, 12]
    assert found.found is found.tried[-1]
    assert found.engines == {"onnxruntime": []}
    figures = found.found.figures
    assert (figures["cpu_speed"], figures["accuracy_fp32"], figures["labelled"]) == (2, 1, True)
    assert figures["cam_cosine"] > 0.99
    assert "misses accuracy" in said[0]
    assert "within bounds" in said[-1]


def test_blocks_go_back_to_32_bits_one_after_the_other(
    compiled: CompiledGraph, grays: Pixels, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to half of them. LeNet-5 has two before its target layer."""
    found, _ = search(compiled, grays, labels, monkeypatch, ["hottest cell"])
    assert found.found is None
    assert [len(one.candidate.kept) for one in found.tried] == [0, 0, 0, 1, 1]
    assert [one.candidate.eighth_bit for one in found.tried] == [False, False, True, False, True]


def test_a_network_that_is_not_faster_is_tried_once(
    compiled: CompiledGraph, grays: Pixels, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No candidate of it has fewer graphs to convert, so none is faster."""
    monkeypatch.setattr(precision_search, "measure_latencies", lambda *_: [1.0, 2.0])
    said: list[str] = []
    found = find_fast_graph(compiled.proto, grays, Split(grays, labels), said.append)
    assert (len(found.tried), found.found) == (1, None)
    assert "speed" in found.tried[0].figures["missed"]


def test_a_graph_without_a_map_to_end_at_is_not_tried(
    compiled: CompiledGraph, grays: Pixels, labels: Labels
) -> None:
    """Its precision cannot be lowered. The reason is said."""
    proto = compiled.proto
    makers = {name: node for node in proto.graph.node for name in node.output}
    product = makers[makers["cam"].input[0]]
    at = list(proto.graph.node).index(product)
    proto.graph.node.insert(at, onnx.helper.make_node("Identity", [product.input[1]], ["copy"]))
    product.input[1] = "copy"
    said: list[str] = []
    found = find_fast_graph(proto, grays, Split(grays, labels), said.append)
    assert (found.tried, found.found) == ([], None)
    assert "cannot be lowered" in said[0]


def test_no_candidate_is_made_after_the_time_is_over(
    compiled: CompiledGraph, grays: Pixels, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_search, "SECONDS", -1)
    found, said = search(compiled, grays, labels, monkeypatch, ["accuracy"])
    assert (len(found.tried), found.found) == (1, None)
    assert "no further candidate is tried" in said[-1]


@pytest.mark.skipif(not has_openvino(), reason="needs the package openvino")
def test_the_chosen_graph_is_judged_in_openvino_as_well(
    compiled: CompiledGraph, grays: Pixels, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its own answers, which are not those of onnxruntime."""
    monkeypatch.setattr(precision_search, "has_openvino", lambda: True)
    found, said = search(compiled, grays, labels, monkeypatch, [], [], [], ["least cosine"])
    assert found.engines == {"onnxruntime": [], "openvino": ["least cosine"]}
    assert said[-1] == "in OpenVINO: misses least cosine"


def test_a_block_that_need_not_be_kept_goes_back_to_8_bits() -> None:
    """Those graphs that were tried are not tried again."""
    candidate = Candidate(kept=(0, 1, 4), eighth_bit=True)
    tried = [replace(candidate, kept=kept) for kept in ((), (0,), (0, 4), (0, 1, 4))]
    fewer = [one.kept for one in list_with_fewer_blocks(candidate, tried)]
    assert fewer == [(1, 4), (0, 1)]


def test_pictures_are_spread_over_all_labels() -> None:
    """They may be sorted by label."""
    test = Split(np.zeros((10, 1, 1, 1), np.uint8), np.arange(10))
    assert spread(test, 4).labels.tolist() == [0, 3, 6, 9]
    assert spread(test, 10) is test
