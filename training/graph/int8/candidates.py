"""Graphs in 8 bits of one network, made in different ways from the same calibration pictures."""

from dataclasses import dataclass

import onnx

from training.graph.body import extract_body, name_nodes, replace_body
from training.graph.int8.activations import (
    CALIBRATION_PICTURES,
    Range,
    choose_calibration_pictures,
    find_ranges,
    record_activations,
)
from training.graph.int8.bias_correction import correct_biases
from training.graph.int8.blocks import divide_into_blocks
from training.graph.int8.quantizer import Recipe, quantize_to_int8
from training.imaging.preprocessing import Pixels


@dataclass(frozen=True)
class Candidate:
    """One way to make a graph in 8 bits."""

    kept: tuple[int, ...] = ()  # the blocks that stay in 32 bits
    eighth_bit: bool = False  # of the weights; the processor needs VNNI
    ranges: str = "min-max"
    pictures: int = CALIBRATION_PICTURES  # to find the ranges on
    corrected: bool = False  # the biases

    def __str__(self) -> str:
        bits, blocks = 8 if self.eighth_bit else 7, [str(block + 1) for block in sorted(self.kept)]
        parts = [f"{bits}-bit weights, {self.ranges} of {self.pictures} pictures"]
        parts += ["corrected biases"] * self.corrected
        if blocks:
            parts.append(f"block{'s' * (len(blocks) > 1)} {' and '.join(blocks)} in 32 bits")
        return ", ".join(parts)


class CandidateGraphs:
    """Makes the graphs. The calibration pictures run once, when it is made.

    Raises:
        UserError: the graph's `cam` does not come from a map.
    """

    def __init__(self, proto: onnx.ModelProto, pictures: Pixels) -> None:
        self.pictures = choose_calibration_pictures(pictures)
        self._named = name_nodes(proto)
        self._body = extract_body(self._named)
        self._activations = record_activations(self._body, self.pictures)
        self._ranges: dict[tuple[str, int], dict[str, Range]] = {}
        self.blocks = divide_into_blocks(self._body)

    def make(self, candidate: Candidate) -> onnx.ModelProto:
        """The whole graph of a candidate."""
        kept = frozenset(name for block in candidate.kept for name in self.blocks[block])
        recipe, body = Recipe(candidate.eighth_bit, kept), self._body
        if candidate.corrected:
            body = correct_biases(body, self._activations, recipe)
        way = candidate.ranges, candidate.pictures
        if way not in self._ranges:
            self._ranges[way] = find_ranges(self._activations, *way)
        ranges = self._ranges[way]
        return replace_body(self._named, self._body, quantize_to_int8(body, ranges, recipe))
