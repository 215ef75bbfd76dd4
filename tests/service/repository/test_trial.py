"""The trial tells the worker all that it needs to know about a file, or what is wrong with it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic_core import to_json

from service.artifact.card import InvalidArtifact
from service.artifact.validation import read_artifact
from service.parameters import MAX_TARGETS
from service.repository import trial
from service.repository.golden import decode_golden_pictures
from service.repository.trial import UNSERVED, run_all_batches, try_model_file, unpack_trial
from service.runtime.engine import AnyOutputs
from service.runtime.session import OnnxSession
from service.settings import read_settings
from tests.server import ROOT
from tests.service.quadrants_model import write_model

RESNET = ROOT / "models" / "resnet18" / "2" / "model.onnx"
LIMITED = """
import resource, sys
from functools import partial
from pathlib import Path
from service.repository.loader import load_model_file
from service.repository.sandbox import Sandbox
from service.repository.trial import try_model_file
from service.settings import read_settings

settings = read_settings()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    Sandbox(partial(try_model_file, settings)).run(Path(sys.argv[1]))
except Exception as exc:
    print(exc)
else:
    print("ready")
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_the_worker_learns_the_card_the_hash_and_the_golden_pictures(path: Path) -> None:
    expected, content = read_artifact(path)
    tried = unpack_trial(path, try_model_file(read_settings(), path))
    assert tried.artifact == replace(expected, card=expected.card.model_copy(update=UNSERVED))
    assert tried.size == len(content)
    for found, picture in zip(tried.pictures, decode_golden_pictures(expected), strict=True):
        np.testing.assert_array_equal(found.pixels, picture.pixels)
        assert found.mask is None


def test_the_worker_holds_no_objects_of_what_it_does_not_need(tmp_path: Path) -> None:
    notes = ["a note"] * 1000
    attention = {"count": 0, "border_share": None, "mean": None, "more": notes}
    path = tmp_path / "model.onnx"
    write_model(path, training={"notes": notes}, unknown=notes, attention=attention)
    artifact = unpack_trial(path, try_model_file(read_settings(), path)).artifact
    card = json.loads(artifact.public_card)
    assert card["training"]["notes"] == card["unknown"] == card["attention"]["more"] == notes
    assert b"a note" not in to_json({**dict(artifact.card), "golden": None, "examples": None})


def test_it_runs_the_batches_that_will_be_run(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    run = OnnxSession.run

    def record(
        self: OnnxSession, image: NDArray[np.uint8], target: NDArray[np.int64]
    ) -> AnyOutputs:
        batches.append(target.shape)
        return run(self, image, target)

    monkeypatch.setattr(OnnxSession, "run", record)
    monkeypatch.setenv("SIGHTGLASS_MAX_BATCH_SIZE", "5")
    try_model_file(read_settings(), path)
    assert batches == [(1, 1), (1, 1), (1, 0), (5, 1), (5, 0), (5, MAX_TARGETS)]


@pytest.mark.skipif(sys.platform != "linux", reason="memory is measured on Linux only")
def test_a_batch_may_not_take_much_more_memory_than_its_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, content = read_artifact(path)
    session = OnnxSession(content, artifact, "cpu", 1)
    pictures = decode_golden_pictures(artifact)
    run, held = session.run, []

    def take(image: NDArray[np.uint8], target: NDArray[np.int64]) -> AnyOutputs:
        if len(image) > 2:
            held.append(np.ones(64 << 20, np.uint8))
        return run(image, target)

    monkeypatch.setattr(session, "run", take)
    run_all_batches(session, artifact, pictures, 4)
    held.clear()
    monkeypatch.setattr(trial, "SPARE_BYTES", 32 << 20)
    with pytest.raises(InvalidArtifact, match="for 4 images with 1 targets each, but 0 MB for one"):
        run_all_batches(session, artifact, pictures, 4)


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox exists on Linux only")
@pytest.mark.parametrize(("spare", "reason"), [(1 << 30, "ready"), (100 << 20, "MB of memory")])
def test_a_hard_limit_of_memory_is_kept_and_named(spare: int, reason: str) -> None:
    completed = subprocess.run(
        [sys.executable, "-c", LIMITED, str(RESNET), str(spare)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert reason in completed.stdout
    assert len(completed.stdout.splitlines()) == 1
