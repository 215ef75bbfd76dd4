"""Validates a model file before a session is opened: does the file follow the contract?

Knows the file on disk and its card, but no onnxruntime, HTTP or images. A hostile file can make it
take gigabytes and minutes, so a server calls it in the sandbox only. The sandbox also finds what
only running the file can show.
"""

import hashlib
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from service.artifact.card import Artifact, Card, InvalidArtifact
from service.artifact.graph import check_graph
from service.artifact.regular_file import read_regular_file
from service.artifact.steadiness import is_steady
from service.artifact.strip import MAX_FIELDS, has_too_many_fields

METADATA_KEY = "sightglass"
MAX_FILE_BYTES = (1 << 31) - 1  # the limit of protobuf
MAX_CARD_BYTES = 8 << 20
MAX_CARD_VALUES = 500_000  # each of 100,000 labels has a name and two golden probabilities


def read_artifact(path: Path) -> tuple[Artifact, bytes]:
    """Read and validate one model file; return it with the bytes that were validated.

    Raises:
        InvalidArtifact: not a complete ONNX file, no valid card, or a graph that does not match it.
    """
    content = read_regular_file(path, MAX_FILE_BYTES)
    try:
        model = onnx.load_from_string(content)
        is_crowded = has_too_many_fields(content)
    except (DecodeError, ValueError) as exc:
        raise InvalidArtifact(f"{path} can't be read as an ONNX file: {exc}.") from None
    if is_crowded:
        raise InvalidArtifact(f"{path} has more than {MAX_FIELDS} fields beside its graph.")
    raw_card = _read_metadata(path, model)
    card = _validate_card(path, raw_card)
    map_shape = check_graph(path, model, card)
    _check_attention(path, card, map_shape)
    sha256 = hashlib.sha256(content).hexdigest()
    public_card = _make_public_card(raw_card)
    facts = (sha256, card, public_card, map_shape, is_steady(model.graph))
    return Artifact(path, *facts), content


def _read_metadata(path: Path, model: onnx.ModelProto) -> dict[str, Any]:
    texts = [entry.value for entry in model.metadata_props if entry.key == METADATA_KEY]
    if len(texts) != 1:
        raise InvalidArtifact(
            f"{path} has no '{METADATA_KEY}' card in its metadata: export the model again."
        )
    if len(texts[0]) > MAX_CARD_BYTES:
        raise InvalidArtifact(f"{path} has a card of more than {MAX_CARD_BYTES} bytes.")
    try:
        card = from_json(texts[0])
        _check_number_of_values(path, card)
        to_json(card)  # what is read must be possible to write
    except ValueError as exc:
        raise InvalidArtifact(f"{path} has a card that is not valid JSON: {exc}.") from None
    if not isinstance(card, dict):
        raise InvalidArtifact(f"{path} has a card that is not a JSON object.")
    return card


def _make_public_card(raw_card: dict[str, Any]) -> bytes:
    """Return the card without the golden tests, which are most of it and help no client."""
    public: bytes = to_json({name: part for name, part in raw_card.items() if name != "golden"})
    return public


def _check_number_of_values(path: Path, card: Any) -> None:
    """Limit how long the worker takes to read the card, and to write it for `/models`."""
    count, pending = 0, [card]
    while pending:
        value = pending.pop()
        if isinstance(value, dict | list):
            count += len(value)
            if count > MAX_CARD_VALUES:
                raise InvalidArtifact(f"{path} has a card of more than {MAX_CARD_VALUES} values.")
            pending.extend(value.values() if isinstance(value, dict) else value)


def _validate_card(path: Path, raw_card: dict[str, Any]) -> Card:
    try:
        return Card.model_validate(raw_card)
    except ValidationError as exc:
        error = exc.errors(include_url=False)[0]
        key = ".".join(str(step) for step in error["loc"]) or "card"
        raise InvalidArtifact(f"{path} has an invalid card: {key}: {error['msg']}.") from None


def _check_attention(path: Path, card: Card, map_shape: tuple[int, int]) -> None:
    """Check that the mean maps in the card have the size of the graph's maps."""
    if card.attention is None:
        return
    height, width = map_shape
    for reference in (card.attention, *card.attention.classes.values()):
        if reference.mean is not None and [len(row) for row in reference.mean] != [width] * height:
            raise InvalidArtifact(
                f"{path} has a mean map in its card that does not have the shape {map_shape}."
            )
