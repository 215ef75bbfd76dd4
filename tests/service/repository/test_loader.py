"""A file is loaded into a session that is ready, and the memory of loading it is returned."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.artifact.card import Artifact, InvalidArtifact
from service.artifact.validation import read_artifact
from service.repository.golden import decode_golden_pictures
from service.repository.loader import load_model_file, warm_up
from service.repository.sandbox import Sandbox
from service.repository.trial import try_model_file
from service.runtime.engine import Outputs, Session
from service.runtime.session import OnnxSession
from service.settings import DeviceError, read_settings
from tests.server import ROOT
from tests.service.artifact.spoiled import UNRUNNABLE, Spoil, write_spoiled
from tests.service.mutations import make_sandbox
from tests.service.quadrants_model import write_model

LENET, RESNET = (ROOT / "models" / name / "model.onnx" for name in ("lenet5/1", "resnet18/2"))
SPARE_BYTES = 24 << 20  # for the first images
MEASURE = """
import sys
from functools import partial
from pathlib import Path
import psutil
from service.repository.loader import load_model_file
from service.settings import read_settings
from service.repository.sandbox import Sandbox
from service.repository.trial import try_model_file


def load(name):
    settings = read_settings()
    loaded = load_model_file(Path(name), settings, Sandbox(partial(try_model_file, settings)))
    return psutil.Process().memory_info().rss, loaded


before, small = load(sys.argv[1])
after, large = load(sys.argv[2])
print(after - before)
"""


def count_weight_bytes(path: Path) -> int:
    """Return the bytes of all weights in 32 bits."""
    return 4 * sum(int(np.prod(tensor.dims)) for tensor in onnx.load(path).graph.initializer)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory")
def test_memory_of_the_file_and_of_parsing_is_returned() -> None:
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(LENET), str(RESNET)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(measured.stdout) < 2 * count_weight_bytes(RESNET) + SPARE_BYTES


def load(path: Path) -> tuple[Artifact, Session]:
    return load_model_file(path, read_settings(), make_sandbox())


def test_a_file_that_changes_after_its_trial_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    write_model(path)

    def try_and_change(path: Path, engine: str) -> bytes:
        answer = try_model_file(read_settings(), path, engine)
        path.write_bytes(bytes(path.stat().st_size))
        return answer

    with pytest.raises(InvalidArtifact, match="changed while"):
        load_model_file(path, read_settings(), Sandbox(try_and_change))


def test_a_valid_file_is_loaded_and_ready(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx")
    artifact, session = load(tmp_path / "model.onnx")
    assert session.run(*artifact.make_batch(2, 1)).cam.shape == (2, 1, 4, 4)


@pytest.mark.parametrize(
    ("spoil", "reason"), UNRUNNABLE.items(), ids=lambda it: getattr(it, "__name__", "")
)
def test_a_file_that_cannot_run_is_rejected_with_a_sentence(
    tmp_path: Path, spoil: Spoil, reason: str
) -> None:
    path = tmp_path / "model.onnx"
    write_spoiled(path, spoil)
    with pytest.raises(InvalidArtifact) as rejected:
        load(path)
    assert str(path) in str(rejected.value)
    assert reason in str(rejected.value)


def test_a_run_that_fails_is_an_invalid_artifact_but_a_failing_device_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model.onnx")
    artifact, content = read_artifact(tmp_path / "model.onnx")
    session = OnnxSession(content, artifact, "cpu", 1)
    pictures = decode_golden_pictures(artifact)
    for raised, expected in (
        (RuntimeError("bad"), InvalidArtifact),
        (DeviceError("x"), DeviceError),
    ):

        def fail(*_: object, raised: Exception = raised) -> Outputs:
            raise raised

        monkeypatch.setattr(session, "run", fail)
        with pytest.raises(expected):
            warm_up(session, artifact, pictures, 2)
