"""`make bench-gpu` works as far as a CPU can test it, and says if there is no GPU."""

from pathlib import Path

import pytest

from benchmarks import gpu
from service.artifact.validation import read_artifact
from service.runtime.cuda import CPU
from service.runtime.session import has_cuda
from tests.service.quadrants_model import write_model


def test_every_tuning_is_measured_and_every_node_has_a_provider(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(path)
    artifact, content = read_artifact(path)
    figures = gpu.measure_model(content, artifact, "cpu", rounds=2, seconds=0.02)
    assert set(figures["placement"]) == {CPU}
    assert figures["placement"][CPU]["AveragePool"] == 1
    assert set(figures["rates"]) == {"1", "8", "32"}
    for rates in figures["rates"].values():
        assert set(rates) == set(gpu.TUNINGS)
        assert min(rates.values()) > 0
    assert figures["explained_over_plain"] > 0
    page = gpu.make_page(
        {"device": "a CPU", "cores": 2, "fp32": figures, "fp16": figures, "decode": 1.0}
        | {"served": {"1": 0.5}}
    )
    assert "Served with 1 workers: 0 a second, 0.50 of the smaller bound." in page


def test_decoding_is_measured_on_photographs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(path)
    artifact, _ = read_artifact(path)
    assert gpu.measure_decoding(artifact, rounds=1, seconds=0.01) > 0


@pytest.mark.skipif(has_cuda(), reason="this machine has a GPU")
def test_the_command_says_if_there_is_no_gpu(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks.gpu"])
    assert gpu.main() == 2
    assert capsys.readouterr().out.startswith("There is no GPU to measure")


@pytest.mark.gpu
@pytest.mark.skipif(not has_cuda(), reason="needs a CUDA provider and a GPU")
def test_everything_but_shape_arithmetic_runs_on_the_gpu() -> None:
    """In every bundled model, no node that computes pixels or maps runs on the CPU."""
    shapes = {"Shape", "Gather", "Unsqueeze", "Squeeze", "Concat", "Slice", "Cast", "Mul", "Add"}
    for path in Path("models").glob("*/*/model.onnx"):
        artifact, content = read_artifact(path)
        placed = gpu.find_placement(content, artifact, "cuda")
        assert set(placed.get(CPU, {})) <= shapes, path
        assert {"Conv"} <= set(placed["CUDAExecutionProvider"])
