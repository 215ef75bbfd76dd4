"""Randomly damaged model files: `python -m tests.service.mutations 5000` validates 5,000 of them.

Half of them have changed bytes. Half have a graph that parses but makes no sense. Each file is
either valid or rejected with a sentence, and the process survives.
"""

import random
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import onnx

from service.artifact.card import InvalidArtifact
from service.repository.sandbox import Sandbox
from service.repository.trial import try_model_file
from service.settings import read_settings
from tests.service.quadrants_model import write_model

OPERATORS = (
    "Expand", "Tile", "Reshape", "Gather", "GatherElements", "GatherND", "ScatterND",
    "ConstantOfShape", "Pad", "Slice", "Conv", "ConvTranspose", "MatMul", "Gemm", "Transpose",
    "Range", "Where", "Concat", "Split", "Softmax", "ArgMax", "TopK", "Resize", "Einsum",
    "AveragePool", "MaxPool", "ReduceSum", "ReduceMax", "Cast", "NonZero", "Unique", "OneHot",
    "LSTM", "DequantizeLinear", "BatchNormalization", "CumSum", "Shape", "Size", "Squeeze",
    "Unsqueeze", "Loop", "Scan", "If", "Sqrt", "Div", "Mod", "BitShift",
)  # fmt: skip
SIZES = (0, -1, 1, 2, 7, 10**6, 2**31, 2**40, 2**62, -(2**63))


def mutate(content: bytes, seed: int) -> bytes:
    """Return the file with a mistake; the same seed makes the same mistake."""
    generator = random.Random(seed)
    return (mutate_bytes if generator.random() < 0.5 else mutate_graph)(content, generator)


def mutate_bytes(content: bytes, generator: random.Random) -> bytes:
    """Change, delete or insert some bytes anywhere but in the card."""
    graph = onnx.load_from_string(content).graph.SerializeToString()
    first = content.find(graph)
    changed = bytearray(content)
    for _ in range(generator.choice((1, 1, 2, 4, 16))):
        at = first + generator.randrange(len(graph))
        kind = generator.randrange(4)
        if kind == 0:
            changed[at] = generator.randrange(256)
        elif kind == 1:
            changed[at] ^= 1 << generator.randrange(8)
        elif kind == 2:
            del changed[at : at + generator.randrange(1, 9)]
        else:
            changed[at:at] = generator.randbytes(generator.randrange(1, 9))
    return bytes(changed)


def mutate_graph(content: bytes, generator: random.Random) -> bytes:
    """Swap operators, edges, attributes, shapes and values."""
    model = onnx.load_from_string(content)
    changes = (change_node, change_attribute, change_tensor, change_value)
    for _ in range(generator.choice((1, 1, 2, 3))):
        generator.choice(changes)(model.graph, generator)
    return bytes(model.SerializeToString())


def change_node(graph: onnx.GraphProto, generator: random.Random) -> None:
    """Change an operator or an input, or delete or duplicate a node."""
    node = generator.choice(graph.node)
    kind = generator.randrange(4)
    if kind == 0:
        node.op_type = generator.choice(OPERATORS)
    elif kind == 1 and node.input:
        known = [name for other in graph.node for name in other.output]
        known += [tensor.name for tensor in graph.initializer] + ["image", "target", "nothing", ""]
        node.input[generator.randrange(len(node.input))] = generator.choice(known)
    elif kind == 2 and len(graph.node) > 1:
        del graph.node[generator.randrange(len(graph.node))]
    else:
        graph.node.add().CopyFrom(node)


def change_attribute(graph: onnx.GraphProto, generator: random.Random) -> None:
    """Change a number or a text in an attribute."""
    attribute = generator.choice([a for node in graph.node for a in node.attribute])
    if attribute.ints:
        attribute.ints[generator.randrange(len(attribute.ints))] = generator.choice(SIZES)
    elif attribute.s:
        attribute.s = generator.choice((b"nc->nc", b"ntc,ncij->ntijk", b"", b"\xff"))
    else:
        attribute.i = generator.choice(SIZES)


def change_tensor(graph: onnx.GraphProto, generator: random.Random) -> None:
    """Change the shape, the datatype or a value of a constant."""
    tensor = generator.choice(graph.initializer)
    kind = generator.randrange(3)
    if kind == 0:
        tensor.dims.append(generator.choice((0, 1, 2, -1)))
    elif kind == 1:
        tensor.data_type = generator.randrange(25)
    else:
        values = bytearray(tensor.raw_data)
        values[generator.randrange(len(values))] = generator.randrange(256)
        tensor.raw_data = bytes(values)


def change_value(graph: onnx.GraphProto, generator: random.Random) -> None:
    """Change a size of an input or output."""
    value = generator.choice([*graph.input, *graph.output])
    size = generator.choice(value.type.tensor_type.shape.dim)
    size.dim_value = generator.choice(SIZES)


def make_sandbox() -> Sandbox:
    """Return the sandbox that a worker has."""
    return Sandbox(partial(try_model_file, read_settings()))


def validate(content: bytes, path: Path, sandbox: Sandbox) -> str:
    """Return why the file is rejected, or nothing. Other exceptions are raised."""
    path.write_bytes(content)
    try:
        sandbox.run(path)
    except InvalidArtifact as exc:
        return str(exc)
    return ""


def main(count: int, first: int = 0) -> None:
    """Validate `count` damaged files and print how many ended in which way."""
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_model(path)
        content, sandbox = path.read_bytes(), make_sandbox()
        for seed in range(first, first + count):
            reason = validate(mutate(content, seed), path, sandbox)
            for word in ("crashes", "not finish", "killed", "memory", "rejected by onnxruntime"):
                if word in reason:
                    outcomes[word] += 1
                    if word != "rejected by onnxruntime":
                        print(seed, reason)  # noqa: T201
                    break
            else:
                outcomes["invalid" if reason else "valid"] += 1
    print(dict(outcomes))  # noqa: T201


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
