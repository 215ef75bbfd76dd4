"""The graph's output `familiarity` is the Mahalanobis distance of its pooled features."""

import numpy as np
import onnx
import pytest

from training.errors import UserError
from training.graph.compilation import CompiledGraph
from training.graph.familiarity import (
    add_familiarity,
    find_features,
    fit_gaussian,
    pool_features,
    remove_familiarity,
)
from training.graph.session import FAMILIARITY, open_session, run_for_top1
from training.imaging.synthetic import generate_images


def test_the_features_are_those_of_the_last_layer_with_the_size_of_the_map(
    compiled: CompiledGraph,
) -> None:
    """LeNet-5's second activation has 16 channels on 10 x 10 places."""
    assert find_features(compiled.proto).channels == 16


def test_the_output_is_the_distance_and_the_others_stay(compiled: CompiledGraph) -> None:
    usual, strange = generate_images(60, 28, 28, 1), np.full((3, 28, 28, 1), 255, np.uint8)
    features = pool_features(compiled.proto, usual)
    assert features.shape == (60, 16)
    gaussian = fit_gaussian(features)
    extended = add_familiarity(compiled.proto, gaussian)
    pictures = np.concatenate([usual[:5], strange])
    found = run_for_top1(open_session(extended, outputs=[FAMILIARITY]), pictures, 0)[0]

    centred = features[:5].astype(np.float64) - features.mean(0)
    covariance = np.cov(features.T, bias=True)
    covariance = 0.99 * covariance + 0.01 * np.trace(covariance) / 16 * np.eye(16)
    expected = -np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    assert np.allclose(found[:5], expected, rtol=1e-2)
    assert found[5:].max() < found[:5].min()
    before, after = (
        run_for_top1(open_session(proto), pictures, 1) for proto in (compiled.proto, extended)
    )
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_it_can_be_added_again_and_removed(compiled: CompiledGraph) -> None:
    gaussian = fit_gaussian(pool_features(compiled.proto, generate_images(20, 28, 28, 1)))
    twice = add_familiarity(add_familiarity(compiled.proto, gaussian), gaussian)
    assert [value.name for value in twice.graph.output][-2:] == ["cam", FAMILIARITY]
    assert remove_familiarity(twice).SerializeToString() == compiled.proto.SerializeToString()


def test_a_graph_without_features_of_the_size_of_its_maps_is_rejected(
    compiled: CompiledGraph,
) -> None:
    cam = next(value for value in compiled.proto.graph.output if value.name == "cam")
    shape = onnx.helper.make_tensor_value_info("cam", 1, ["N", "T", 3, 5]).type
    cam.type.CopyFrom(shape)
    with pytest.raises(UserError, match="has no features"):
        find_features(compiled.proto)
