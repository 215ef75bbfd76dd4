"""Chooses the engine for a model file, by trying it in the sandbox.

Knows which engines there are and what the settings say, but neither sessions nor HTTP.
"""

from pathlib import Path
from typing import NamedTuple

from service.artifact.card import InvalidArtifact
from service.repository.sandbox import Sandbox
from service.repository.trial import TriedModel, unpack_trial
from service.runtime.engine import ONNXRUNTIME, OPENVINO
from service.settings import Settings


class Choice(NamedTuple):
    """The engine for a file, and what its trial found out."""

    tried: TriedModel
    engine: str = ONNXRUNTIME
    reason: str | None = None  # why this one, if there was another


def choose_engine(path: Path, settings: Settings, sandbox: Sandbox) -> Choice:
    """Try a file on the engines that the settings allow, and return the one to serve it with.

    Raises:
        InvalidArtifact: no engine can serve the file; the message says why.
    """
    if settings.device != OPENVINO:
        return Choice(try_engine(path, sandbox, ONNXRUNTIME))
    try:
        return Choice(try_engine(path, sandbox, OPENVINO), OPENVINO)
    except InvalidArtifact as exc:
        reason = f"OpenVINO was set, but: {exc}"
    return Choice(try_engine(path, sandbox, ONNXRUNTIME), ONNXRUNTIME, reason)


def try_engine(path: Path, sandbox: Sandbox, engine: str) -> TriedModel:
    """Run every kind of batch on that engine, in a process of its own."""
    return unpack_trial(path, sandbox.run(path, engine))
