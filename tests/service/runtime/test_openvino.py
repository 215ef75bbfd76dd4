"""A model in OpenVINO answers as in onnxruntime, within what bfloat16 rounds."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.artifact.card import AS_TARGET, Artifact, InvalidArtifact, RegionTarget
from service.artifact.validation import read_artifact
from service.repository.golden import COMPUTED
from service.runtime import openvino as openvino_module
from service.runtime.engine import Engine
from service.runtime.opening import open_session
from service.runtime.openvino import (
    OpenVinoSession,
    is_installed,
    load_core,
    parse_graph,
    require_openvino,
)
from service.runtime.session import OnnxSession, ReplicatedSession
from service.settings import DeviceError, read_settings
from tests.server import ROOT
from tests.service import mask_model, quadrants_model

TOLERANCE = COMPUTED["bf16"]
needs_openvino = pytest.mark.skipif(not is_installed(), reason="needs the package openvino")
Model = tuple[Artifact, bytes]


def write_quadrants(path: Path) -> None:
    quadrants_model.write_model(path)


def write_masks(path: Path) -> None:
    mask_model.write_model(path)


def use_bundled(name: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.symlink_to(ROOT / "models" / name / "model.onnx")

    return link


@pytest.fixture(
    params=[write_quadrants, write_masks, use_bundled("lenet5/1"), use_bundled("resnet18/2")],
    ids=["quadrants", "masks", "lenet5", "resnet18 in w16"],
)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Model:
    request.param(tmp_path / "model.onnx")
    return read_artifact(tmp_path / "model.onnx")


def open_openvino(model: Model, threads: int = 1, streams: int = 1) -> OpenVinoSession:
    artifact, content = model
    return OpenVinoSession(parse_graph(content, artifact), artifact, threads, streams)


def make_noise(
    artifact: Artifact, rows: int, targets: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A batch of noise, each row with its own targets."""
    generator = np.random.default_rng(rows)
    image, target = artifact.make_batch(rows, targets)
    image = generator.integers(0, 256, image.shape, np.uint8)
    classes = generator.integers(0, len(artifact.card.labels), (rows, targets))
    if artifact.card.segments:
        whole = RegionTarget(0, AS_TARGET, 0, 0, artifact.card.input.width, 8)
        target = np.tile(np.array(whole, np.int64), (rows, targets, 1))  # (N, T, 6)
        target[..., 0] = classes
        return image, target
    return image, classes.astype(np.int64)


def list_arrays(outputs: Any) -> list[NDArray[Any]]:
    return [array for array in outputs if array is not None]


@needs_openvino
@pytest.mark.parametrize(("rows", "targets"), [(1, 0), (1, 1), (5, 3), (2, 0)])
def test_the_answers_are_those_of_onnxruntime(model: Model, rows: int, targets: int) -> None:
    artifact, content = model
    batch = make_noise(artifact, rows, targets)
    expected: Any = OnnxSession(content, artifact, "cpu", 1).run(*batch)
    found: Any = open_openvino(model).run(*batch)
    assert type(found) is type(expected)
    for one, other in zip(list_arrays(expected), list_arrays(found), strict=True):
        assert (other.shape, other.dtype) == (one.shape, one.dtype)
    np.testing.assert_allclose(
        found.probabilities, expected.probabilities, atol=TOLERANCE.probability
    )
    peak = np.abs(expected.cam).max(initial=1e-6)
    np.testing.assert_allclose(found.cam / peak, expected.cam / peak, atol=TOLERANCE.cam)


@needs_openvino
def test_a_row_does_not_depend_on_its_neighbours(model: Model) -> None:
    session = open_openvino(model)
    image, target = make_noise(model[0], 5, 2)
    order = [3, 0, 2, 1, 4]
    straight = list_arrays(session.run(image, target))
    mixed = list_arrays(session.run(image[order], target[order]))
    alone: Any = session.run(image[3:4], target[3:4])
    for one, other in zip(straight, mixed, strict=True):
        np.testing.assert_array_equal(one[order], other)
    difference = np.abs(straight[1][3:4] - alone.probabilities).max()
    assert difference <= TOLERANCE.probability


@needs_openvino
def test_runs_at_the_same_time_do_not_mix_their_rows(model: Model) -> None:
    session = open_openvino(model, streams=2)
    batches = [make_noise(model[0], rows, 1) for rows in (1, 2, 3, 4)] * 8
    expected = [list_arrays(session.run(*batch)) for batch in batches[:4]] * 8
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda batch: list_arrays(session.run(*batch)), batches))
    for one, other in zip(expected, found, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@needs_openvino
def test_it_runs_on_after_its_memory_was_released(model: Model) -> None:
    session = open_openvino(model)
    batch = make_noise(model[0], 3, 1)
    before = list_arrays(session.run(*batch))
    session.release_memory()
    for one, other in zip(before, list_arrays(session.run(*batch)), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_openvino
def test_the_engine_and_its_precision_are_named(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    for has_bf16, precision in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(openvino_module, "has_bf16", lambda found=has_bf16: found)
        assert open_openvino(model).engine == Engine("openvino", precision)


@needs_openvino
def test_in_32_bits_the_answers_differ_by_rounding_only(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_module, "has_bf16", lambda: False)
    artifact, content = model
    batch = make_noise(artifact, 3, 1)
    expected: Any = OnnxSession(content, artifact, "cpu", 1).run(*batch)
    found: Any = open_openvino(model).run(*batch)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.cam, expected.cam, atol=1e-4 * np.abs(expected.cam).max())


@needs_openvino
def test_a_slow_model_has_a_stream_on_each_core(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact, content = model
    monkeypatch.setattr("service.runtime.opening.count_cores", lambda: 3)
    monkeypatch.setattr("service.runtime.opening.measure_run", lambda *_: 1)
    session = open_session(content, artifact, read_settings(), "openvino")
    assert isinstance(session, ReplicatedSession)
    assert (session.replicas, session.engine.name) == (3, "openvino")
    batch = make_noise(artifact, 2, 1)
    for one, other in zip(
        list_arrays(session.run(*batch)), list_arrays(session.run_replica(*batch)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=0.1 * max(1e-6, np.abs(one).max(initial=0)))


@needs_openvino
def test_weights_in_16_bits_are_widened_before_the_graph_is_compiled(model: Model) -> None:
    artifact, content = model
    converted = [
        node.input_value(0).get_node()
        for node in parse_graph(content, artifact).get_ordered_ops()
        if node.get_type_name() == "Convert"
    ]
    stored = [
        node.get_element_type().get_type_name()
        for node in converted
        if node.get_type_name() == "Constant"
    ]
    assert "f16" not in stored


@needs_openvino
def test_a_graph_that_openvino_rejects_is_an_invalid_artifact(model: Model) -> None:
    with pytest.raises(InvalidArtifact, match=r"model\.onnx is rejected by OpenVINO: "):
        parse_graph(b"no graph", model[0])


def test_without_the_package_the_device_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openvino_module, "is_installed", lambda: False)
    with pytest.raises(DeviceError, match=r"Install sightglass\[openvino\]"):
        require_openvino()


@needs_openvino
def test_nothing_that_reports_to_its_makers_is_imported() -> None:
    load_core()
    assert not [name for name in sys.modules if name.startswith("openvino_telemetry")]


@needs_openvino
def test_a_process_that_was_forked_later_says_so_and_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load_core()
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="before this process was forked"):
        load_core()
