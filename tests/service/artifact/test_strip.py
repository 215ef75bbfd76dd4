"""An engine gets a model file without its metadata, and with everything else."""

from pathlib import Path

import onnx
import pytest

from service.artifact.card import InvalidArtifact
from service.artifact.strip import MAX_FIELDS, METADATA_PROPS, strip_metadata
from service.artifact.validation import read_artifact
from tests.service.quadrants_model import write_model


def test_only_the_metadata_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(path)
    model = onnx.load(path)
    model.metadata_props.add(key="other", value="x" * 1000)
    content = model.SerializeToString()
    stripped = onnx.ModelProto.FromString(strip_metadata(content))
    assert not stripped.metadata_props
    del model.metadata_props[:]
    assert stripped == model
    assert strip_metadata(stripped.SerializeToString()) == stripped.SerializeToString()


def test_the_number_of_the_field_is_that_of_onnx() -> None:
    assert onnx.ModelProto.METADATA_PROPS_FIELD_NUMBER == METADATA_PROPS


def test_a_file_with_too_many_or_with_strange_fields_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(path)
    content = path.read_bytes()
    path.write_bytes(content + b"\x12\0" * MAX_FIELDS)
    with pytest.raises(InvalidArtifact, match=f"more than {MAX_FIELDS} fields"):
        read_artifact(path)
    path.write_bytes(content + b"\xfb\x07\xfc\x07")  # field 127 as a group, which has no length
    with pytest.raises(InvalidArtifact, match="its field 127 is of kind 3"):
        read_artifact(path)
