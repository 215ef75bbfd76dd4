"""Chooses the engine for a model file: what the settings say, or what was measured here.

With `auto` both engines are tried and measured in the sandbox. OpenVINO is taken if it passes its
trial and is faster by a fifth. What was measured is kept, so that the next start is as fast as with
one engine. Knows neither sessions nor HTTP.
"""

from pathlib import Path
from typing import NamedTuple

from service.artifact.card import InvalidArtifact
from service.artifact.regular_file import hash_regular_file
from service.artifact.validation import MAX_FILE_BYTES
from service.repository.engines.measurements import Measurement, Measurements
from service.repository.sandbox import Sandbox
from service.repository.trial import TriedModel, unpack_measurement, unpack_trial
from service.runtime.engine import COMPARE, ONNXRUNTIME, OPENVINO
from service.runtime.openvino import is_installed
from service.runtime.session import has_cuda
from service.settings import AUTO, Settings

MIN_SPEEDUP = 1.2  # a smaller gain is not worth the rounding


class Choice(NamedTuple):
    """The engine for a file, and what its trial found out."""

    tried: TriedModel
    engine: str = ONNXRUNTIME
    speedup: float | None = None  # of OpenVINO over onnxruntime, if it was measured
    reason: str | None = None  # why this engine, if there was another


def choose_engine(path: Path, settings: Settings, sandbox: Sandbox) -> Choice:
    """Try a file on the engines that the settings allow, and return the one to serve it with.

    Raises:
        InvalidArtifact: no engine can serve the file; the message says why.
    """
    if settings.device == OPENVINO:
        return _prefer_openvino(path, sandbox, Measurement(None, None))
    if settings.device != AUTO or has_cuda() or not is_installed():
        return Choice(_try_engine(path, sandbox, ONNXRUNTIME))
    measurements = Measurements()
    sha256 = hash_regular_file(path, MAX_FILE_BYTES)
    measured = measurements.find(sha256)
    if measured and is_worth_it(measured):
        return _prefer_openvino(path, sandbox, measured)
    tried = _try_engine(path, sandbox, ONNXRUNTIME)
    if measured is None:
        try:
            measured = measurements.keep(sha256, unpack_measurement(sandbox.run(path, COMPARE)))
        except InvalidArtifact as exc:  # not kept: it may have been the machine's fault
            measured = Measurement(None, str(exc))
    if is_worth_it(measured):
        return Choice(tried, OPENVINO, *explain(measured))
    return Choice(tried, ONNXRUNTIME, *explain(measured))


def is_worth_it(measured: Measurement) -> bool:
    """Return whether OpenVINO is faster by enough."""
    return measured.speedup is not None and measured.speedup >= MIN_SPEEDUP


def explain(measured: Measurement) -> tuple[float | None, str | None]:
    """Return the speedup, and a sentence that says what follows from it."""
    if measured.speedup is None:
        return None, measured.fault
    speedup = round(measured.speedup, 2)
    compared = f"OpenVINO is {speedup} times as fast as onnxruntime here"
    return speedup, f"{compared}; it is used from {MIN_SPEEDUP} on."


def _prefer_openvino(path: Path, sandbox: Sandbox, measured: Measurement) -> Choice:
    try:
        return Choice(_try_engine(path, sandbox, OPENVINO), OPENVINO, *explain(measured))
    except InvalidArtifact as exc:
        fault = str(exc)
    return Choice(_try_engine(path, sandbox, ONNXRUNTIME), ONNXRUNTIME, None, fault)


def _try_engine(path: Path, sandbox: Sandbox, engine: str) -> TriedModel:
    """Run every kind of batch on that engine, in a process of its own."""
    return unpack_trial(path, sandbox.run(path, engine))
