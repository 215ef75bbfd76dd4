"""An engine gets a model file without its metadata, and with everything else."""

from pathlib import Path

import onnx

from service.artifact.strip import METADATA_PROPS, strip_metadata
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
