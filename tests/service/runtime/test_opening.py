"""A model opens where its card allows it: on which processors, and in which engines."""

from pathlib import Path

import pytest

from service.artifact.card import InvalidArtifact
from service.artifact.validation import read_artifact
from service.machine import lacks_vnni
from service.runtime import opening
from service.runtime.engine import ONNXRUNTIME, OPENVINO
from service.runtime.opening import make_opener
from tests.service.quadrants_model import write_model


def open_file(path: Path, engine: str) -> None:
    artifact, content = read_artifact(path)
    make_opener(content, artifact, "cpu", engine)(1, 1)


def test_weights_of_eight_bits_need_a_processor_with_vnni(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    write_model(path, precision="mixed", requires=["vnni"])
    monkeypatch.setattr(opening, "lacks_vnni", lambda: True)
    with pytest.raises(InvalidArtifact, match="needs a processor with VNNI"):
        open_file(path, ONNXRUNTIME)
    monkeypatch.setattr(opening, "lacks_vnni", lambda: False)
    open_file(path, ONNXRUNTIME)


def test_a_need_that_is_not_known_is_rejected(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx", requires=["quantum"])
    with pytest.raises(InvalidArtifact, match=r"invalid card: requires\.0"):
        read_artifact(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("flags", "lacks"),
    [
        ("processor: 0\nflags\t\t: sse2 avx2 avx_vnni\n", False),
        ("processor: 0\nflags\t\t: sse2 avx512f avx512_vnni\n", False),
        ("processor: 0\nflags\t\t: sse2 avx2\n", True),
        ("processor: 0\nFeatures\t: asimd asimddp\n", False),  # Arm does not overflow
    ],
)
def test_the_processor_says_whether_it_has_vnni(flags: str, lacks: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(flags)
    assert lacks_vnni(tmp_path / "cpuinfo") == lacks
    assert not lacks_vnni(tmp_path / "missing")


def test_a_file_runs_only_in_engines_that_it_was_judged_in(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(path, engines=[ONNXRUNTIME])
    open_file(path, ONNXRUNTIME)
    with pytest.raises(InvalidArtifact, match=r"must not run in openvino: .* only in onnxruntime"):
        open_file(path, OPENVINO)
