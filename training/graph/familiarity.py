"""The graph's optional output `familiarity`: how like the usual pictures a row's features are.

It is the negative squared Mahalanobis distance (Lee et al. 2018) of the pooled features from their
mean, with one mean and one covariance for all classes. It is added to the finished graph, so it
works for every network and precision. Knows nothing of cards or thresholds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tqdm import tqdm

from training.errors import UserError
from training.graph.session import FAMILIARITY, open_session, run_for_top1
from training.imaging.preprocessing import Pixels

PREFIX = f"{FAMILIARITY}_"  # of the names of what is added
SHRINKAGE = 0.01  # of the covariance towards a multiple of the identity
BATCH = 32


@dataclass(frozen=True)
class FeatureTensor:
    """A tensor (N, C, h, w) in a graph that features are pooled from."""

    name: str
    channels: int


@dataclass(frozen=True)
class Gaussian:
    """Where pooled features usually lie: x is near if |(x - mean) @ whitening| is small."""

    mean: NDArray[np.float32]  # (C,)
    whitening: NDArray[np.float32]  # (C, C)


def find_features(proto: onnx.ModelProto) -> FeatureTensor:
    """The last tensor with the size of the maps that the logits are computed from.

    Raises:
        UserError: there is none.
    """
    outputs = {value.name: value for value in proto.graph.output}
    places = read_sizes(outputs["cam"])[2:]
    inferred = onnx.shape_inference.infer_shapes(proto)
    sizes = {value.name: read_sizes(value) for value in inferred.graph.value_info}
    needed = find_needed(proto.graph, "logits")
    found = [
        FeatureTensor(name, shape[1])
        for node in proto.graph.node
        for name in node.output
        if name in needed
        and len(shape := sizes.get(name, [])) == 4
        and shape[2:] == places
        and shape[1] > 1
    ]
    if not found:
        raise UserError(
            "The graph has no features of the size of its maps, so `familiarity` cannot be "
            "computed. Leave --familiarity out."
        )
    return found[-1]


def find_needed(graph: onnx.GraphProto, output: str) -> set[str]:
    """The names of all tensors that an output is computed from."""
    inputs = {name: node.input for node in graph.node for name in node.output}
    needed: set[str] = set()
    pending = [output]
    while pending:
        name = pending.pop()
        if name not in needed:
            needed.add(name)
            pending.extend(inputs.get(name, ()))
    return needed


def read_sizes(value: onnx.ValueInfoProto) -> list[int]:
    """The sizes of a tensor; 0 is dynamic or unknown."""
    return [size.dim_value for size in value.type.tensor_type.shape.dim]


def make_pooling(
    features: FeatureTensor,
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes and constants that average the features over the places, in 32 bits: (N, C)."""
    nodes = [
        helper.make_node("Cast", [features.name], [f"{PREFIX}cast"], to=TensorProto.FLOAT),
        helper.make_node(
            "ReduceMean", [f"{PREFIX}cast", f"{PREFIX}places"], [f"{PREFIX}pooled"], keepdims=0
        ),
    ]
    return nodes, [numpy_helper.from_array(np.array([2, 3]), f"{PREFIX}places")]


def pool_features(proto: onnx.ModelProto, pictures: Pixels) -> NDArray[np.float32]:
    """The pooled features of pictures (N, H, W, C): (N, C)."""
    probe = remove_familiarity(proto)
    features = find_features(probe)
    nodes, constants = make_pooling(features)
    probe.graph.node.extend(nodes)
    probe.graph.initializer.extend(constants)
    name = f"{PREFIX}pooled"
    shape: list[str | int | None] = ["N", features.channels]
    probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    run = open_session(probe, outputs=[name])
    return np.concatenate([run_for_top1(run, batch, 0)[0] for batch in split_batches(pictures)])


def split_batches(pictures: Pixels) -> Iterator[Pixels]:
    """The pictures (N, H, W, C) in batches, with a progress bar."""
    for start in tqdm(range(0, len(pictures), BATCH), "running", leave=False):
        yield np.ascontiguousarray(pictures[start : start + BATCH])


def fit_gaussian(features: NDArray[np.float32]) -> Gaussian:
    """The mean and covariance of pooled features (N, C)."""
    x = features.astype(np.float64)
    mean = x.mean(0)
    covariance = (x - mean).T @ (x - mean) / len(x)
    spread = max(float(np.trace(covariance)) / len(mean), 1e-12)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * spread * np.eye(len(mean))
    whitening = np.linalg.cholesky(np.linalg.inv(covariance))
    return Gaussian(mean.astype(np.float32), whitening.astype(np.float32))


def add_familiarity(proto: onnx.ModelProto, gaussian: Gaussian) -> onnx.ModelProto:
    """A copy of the graph with the output `familiarity`, in place of one that it had."""
    added = remove_familiarity(proto)
    nodes, constants = make_pooling(find_features(added))
    nodes += [
        helper.make_node("Sub", [f"{PREFIX}pooled", f"{PREFIX}mean"], [f"{PREFIX}centred"]),
        helper.make_node(
            "MatMul", [f"{PREFIX}centred", f"{PREFIX}whitening"], [f"{PREFIX}whitened"]
        ),
        helper.make_node(
            "ReduceSumSquare",
            [f"{PREFIX}whitened", f"{PREFIX}channels"],
            [f"{PREFIX}distance"],
            keepdims=0,
        ),
        helper.make_node("Neg", [f"{PREFIX}distance"], [FAMILIARITY]),
    ]
    constants += [
        numpy_helper.from_array(gaussian.mean, f"{PREFIX}mean"),
        numpy_helper.from_array(gaussian.whitening, f"{PREFIX}whitening"),
        numpy_helper.from_array(np.array([1]), f"{PREFIX}channels"),
    ]
    added.graph.node.extend(nodes)
    added.graph.initializer.extend(constants)
    added.graph.output.append(helper.make_tensor_value_info(FAMILIARITY, TensorProto.FLOAT, ["N"]))
    onnx.checker.check_model(added)
    return added


def remove_familiarity(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of the graph without the output `familiarity` and what only it needs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for values in (copy.graph.node, copy.graph.initializer, copy.graph.output):
        for i in reversed(range(len(values))):
            name = values[i].output[0] if isinstance(values[i], onnx.NodeProto) else values[i].name
            if name == FAMILIARITY or name.startswith(PREFIX):
                del values[i]
    return copy
