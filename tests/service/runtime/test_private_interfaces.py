"""Private attributes of other packages: each test fails when the package changes the attribute."""

from pathlib import Path

import onnxruntime as ort
import pytest

from service.artifact.validation import read_artifact
from service.runtime.session import OnnxSession
from tests.service.quadrants_model import write_model


def test_onnxruntime_keeps_the_model_file_in_the_attribute_that_is_cleared(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx")
    artifact, content = read_artifact(tmp_path / "model.onnx")
    kept = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    if getattr(kept, "_model_bytes", None) is not content:
        pytest.fail(
            f"onnxruntime {ort.__version__} does not keep the model file in "
            "InferenceSession._model_bytes. OnnxSession clears this attribute to free the memory: "
            "find out where the file is kept now, or remove that line."
        )
    session = OnnxSession(content, artifact, "cpu", 1)
    assert session._session._model_bytes is None
    assert session.run(*artifact.make_batch(2, 1)).probabilities.shape == (2, 4)
