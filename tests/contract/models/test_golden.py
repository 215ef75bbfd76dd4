"""The golden tests: a model is only ready if it gives the answers that it gave at the export."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.contract.tree import Tree
from tests.service.quadrants_model import make_card, make_golden, make_graph, save


def break_golden(change: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """A model that does not give the answers in its card."""
    card = make_card()
    model = make_graph(card)
    card["golden"] = make_golden(model, card)
    if change == "labels":
        card["labels"] = [*card["labels"][1:], card["labels"][0]]
    elif change == "probabilities":
        for golden in card["golden"]:
            golden["probabilities"] = [0.7, 0.1, 0.1, 0.1]
    elif change == "cam":
        card["golden"][0]["cam"][0][0] += 0.1
    elif change == "target":
        card["golden"][1]["target"] = 0
    elif change == "picture":
        card["golden"][1]["image"] = "AAAA"
    elif change == "not a number":
        card["golden"][0]["probabilities"][0] = float("nan")
    else:
        tensor = next(t for t in model.graph.initializer if t.name == "weights_t")
        weights = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(np.roll(weights, 1, axis=0), tensor.name))
    return model, card


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("labels", "it answers"),
        ("probabilities", "probabilities differ"),
        ("cam", "cam differs"),
        ("target", "cam differs"),
        ("picture", "cannot be decoded"),
        ("not a number", "probabilities differ"),
        ("weights", "it answers"),
    ],
)
def test_a_model_that_answers_differently_than_at_the_export_is_never_ready(
    tree: Tree, change: str, reason: str
) -> None:
    name = f"broken-{change.replace(' ', '-')}"
    save(*break_golden(change), tree.path(name))
    failed = tree.wait("failed", name)
    assert str(tree.path(name)) in failed["reason"]
    assert "golden test" in failed["reason"]
    assert reason in failed["reason"]
    assert tree.predict(model=name).status_code == 503
