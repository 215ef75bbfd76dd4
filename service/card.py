"""The artefact's card, and the verdict on a model file before any session is made of it.

Knows the contract of the file on disk; knows nothing of onnxruntime, HTTP or pictures.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationError,
    model_validator,
)

METADATA_KEY = "sightglass"
OPSET = 18
STANDARD_DOMAINS = ("", "ai.onnx")

UINT8 = onnx.TensorProto.UINT8
INT64 = onnx.TensorProto.INT64
FLOAT = onnx.TensorProto.FLOAT


class BadArtefact(Exception):
    """A model file that can't be served; one sentence names the file and the fault."""


class Input(BaseModel):
    """How a picture becomes the pixels that the graph takes."""

    model_config = ConfigDict(frozen=True)

    mode: Literal["L", "RGB"]
    height: PositiveInt
    width: PositiveInt
    resize: PositiveInt | None = Field(description="Shorter side; null is exactly height x width")
    crop: Literal["center"] | None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"]

    @model_validator(mode="after")
    def _check_crop(self) -> "Input":
        if (self.resize is None) != (self.crop is None):
            raise ValueError("'resize' and 'crop' are either both given or both null")
        if self.resize is not None and self.resize < max(self.height, self.width):
            raise ValueError("'resize' is smaller than the crop")
        return self

    @property
    def channels(self) -> int:
        """Channels of one pixel: 1 or 3."""
        return len(self.mode)


class GradCam(BaseModel):
    """What the compiled map explains: `layer` is the target layer's name in the network."""

    layer: str
    method: str
    compiler: str


class Golden(BaseModel):
    """One picture, and what the exporter saw for it."""

    image: str = Field(description="base64 of an encoded picture")
    target: int
    label: str
    probabilities: list[float]
    cam: list[list[float]]


class MeanMap(BaseModel):
    """Where the model looked, over many pictures; null where every map was empty."""

    count: NonNegativeInt = Field(validation_alias=AliasChoices("count", "maps"))
    border_share: Annotated[float, Field(ge=0, le=1)] | None
    mean: list[list[Annotated[float, Field(ge=0, le=1)]]] | None


class Attention(MeanMap):
    """The same over the pictures of the export, as a reference for the traffic."""

    classes: dict[str, MeanMap] = {}


class Card(BaseModel):
    """What a model file says of itself. Keys it does not know are kept."""

    model_config = ConfigDict(extra="allow")

    schema_: Literal[1] = Field(alias="schema")
    architecture: str
    task: Literal["multiclass", "multilabel"]
    labels: Annotated[list[str], Field(min_length=1)]
    input: Input
    gradcam: GradCam
    training: dict[str, Any]
    metrics: dict[str, Any] | None
    checks: dict[str, Any]
    golden: Annotated[list[Golden], Field(min_length=2, max_length=2)]
    attention: Attention | None = None
    created: str
    tools: dict[str, Any]
    license: str

    @model_validator(mode="after")
    def _check_labels(self) -> "Card":
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("'labels' must be unique")
        return self


@dataclass(frozen=True)
class Artefact:
    """A model file found fit to serve."""

    path: Path
    sha256: str
    card: Card
    raw_card: dict[str, Any]
    map_shape: tuple[int, int]  # (h, w)


def read_artefact(path: Path) -> tuple[Artefact, bytes]:
    """Read and judge one model file; the bytes returned are the ones that were judged.

    Raises:
        BadArtefact: not a whole ONNX file, no valid card, or a graph that does not match it.
    """
    try:
        content = path.read_bytes()
        model = onnx.load_from_string(content)
    except (OSError, DecodeError, ValueError) as fault:
        raise BadArtefact(f"{path} can't be read as an ONNX file: {fault}.") from None
    raw_card = _read_metadata(path, model)
    card = _validate_card(path, raw_card)
    _check_operators(path, model)
    map_shape = _check_signature(path, model.graph, card)
    _check_attention(path, card, map_shape)
    sha256 = hashlib.sha256(content).hexdigest()
    return Artefact(path, sha256, card, raw_card, map_shape), content


def _read_metadata(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    texts = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    if len(texts) != 1:
        raise BadArtefact(f"{path} has no '{METADATA_KEY}' card in its metadata: export it anew.")
    try:
        card = json.loads(texts[0])
    except ValueError as fault:
        raise BadArtefact(f"{path} has a card that is no JSON: {fault}.") from None
    if not isinstance(card, dict):
        raise BadArtefact(f"{path} has a card that is no JSON object.")
    return card


def _validate_card(path: Path, raw_card: dict[str, Any]) -> Card:
    try:
        return Card.model_validate(raw_card)
    except ValidationError as fault:
        error = fault.errors(include_url=False)[0]
        where = ".".join(str(step) for step in error["loc"]) or "card"
        raise BadArtefact(f"{path} has an invalid card: {where}: {error['msg']}.") from None


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    """Only the standard domain, nothing kept outside the file."""
    opsets = [opset.version for opset in model.opset_import if opset.domain in STANDARD_DOMAINS]
    if opsets != [OPSET]:
        raise BadArtefact(f"{path} has opset {opsets}, not {OPSET}: export it anew.")
    domains = {opset.domain for opset in model.opset_import}
    domains |= {node.domain for graph in _graphs(model) for node in graph.node}
    if strange := sorted(domains - set(STANDARD_DOMAINS)):
        raise BadArtefact(f"{path} uses operators outside the standard domain: {strange}.")
    if model.functions:
        raise BadArtefact(f"{path} defines functions of its own; inline them before the export.")
    for graph in _graphs(model):
        for tensor in _tensors(graph):
            if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
                raise BadArtefact(
                    f"{path} keeps '{tensor.name}' outside the file; one file, please."
                )


def _tensors(graph: onnx.GraphProto) -> list[onnx.TensorProto]:
    """Every tensor a graph holds, initialisers and constants."""
    sparse = [part for s in graph.sparse_initializer for part in (s.values, s.indices)]
    held = [a for node in graph.node for a in node.attribute]
    constants = [t for a in held for t in (a.t, *a.tensors)]
    hidden = [
        p for a in held for s in (a.sparse_tensor, *a.sparse_tensors) for p in (s.values, s.indices)
    ]
    return [*graph.initializer, *sparse, *constants, *hidden]


def _graphs(model: onnx.ModelProto) -> list[onnx.GraphProto]:
    """The main graph and every graph nested in an attribute."""
    found, todo = [], [model.graph]
    while todo:
        graph = todo.pop()
        found.append(graph)
        for node in graph.node:
            for attribute in node.attribute:
                todo.extend(
                    [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]
                )
    return found


def _check_signature(path: Path, graph: onnx.GraphProto, card: Card) -> tuple[int, int]:
    """Names, dtypes and shapes of inputs and outputs; returns the map's (h, w)."""
    held = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value for value in graph.input if value.name not in held}
    outputs = {value.name: value for value in graph.output}
    pixels = (card.input.height, card.input.width, card.input.channels)
    labels = len(card.labels)
    wanted: list[tuple[dict[str, onnx.ValueInfoProto], str, int, tuple[int | None, ...]]] = [
        (inputs, "image", UINT8, (None, *pixels)),
        (inputs, "target", INT64, (None, None)),
        (outputs, "logits", FLOAT, (None, labels)),
        (outputs, "probabilities", FLOAT, (None, labels)),
        (outputs, "cam", FLOAT, (None, None, 0, 0)),  # 0: any fixed size
    ]
    for values, name, dtype, shape in wanted:
        if name not in values:
            raise BadArtefact(f"{path} has no '{name}' among its inputs and outputs.")
        _check_value(path, values[name], dtype, shape)
    strange = sorted((set(inputs) | set(outputs)) - {name for _, name, _, _ in wanted})
    if strange:
        raise BadArtefact(
            f"{path} has inputs or outputs that the contract does not know: {strange}."
        )
    height, width = _shape(outputs["cam"])[2:]
    assert height
    assert width
    return height, width


def _check_attention(path: Path, card: Card, map_shape: tuple[int, int]) -> None:
    """The mean maps of the card are of the graph's own size."""
    if card.attention is None:
        return
    for known in (card.attention, *card.attention.classes.values()):
        if known.mean is not None and np.shape(known.mean) != map_shape:
            raise BadArtefact(
                f"{path} has a mean map in its card that is not of the graph's {map_shape}."
            )


def _check_value(
    path: Path, value: onnx.ValueInfoProto, dtype: int, wanted: tuple[int | None, ...]
) -> None:
    """A size of None must be dynamic, 0 any fixed one, all others as they are."""
    found_dtype = value.type.tensor_type.elem_type
    if found_dtype != dtype:
        names = onnx.TensorProto.DataType.Name
        raise BadArtefact(f"{path} has '{value.name}' as {names(found_dtype)}, not {names(dtype)}.")
    found = _shape(value)
    fits = len(found) == len(wanted) and all(
        have is not None and (want == have or (want == 0 and have > 0))
        if want is not None
        else have is None
        for have, want in zip(found, wanted, strict=True)
    )
    if not fits:
        told = [{None: "dynamic", 0: "fixed"}.get(size, size) for size in wanted]
        raise BadArtefact(
            f"{path} has '{value.name}' of shape {list(found)}; the card implies {told}."
        )


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    """The sizes of a tensor; None is a dynamic one."""
    return tuple(
        size.dim_value if size.HasField("dim_value") else None
        for size in value.type.tensor_type.shape.dim
    )
