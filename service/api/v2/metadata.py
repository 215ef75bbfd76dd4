"""What the protocol says of the server, of its models and of the whole repository.

HTTP and gRPC say the same. Neither of them is known here.
"""

from typing import Literal

from service import __version__
from service.api.v2.schemas import IndexEntry, ModelMetadata, ServerMetadata
from service.api.v2.signature import describe_inputs, describe_outputs, list_metadata
from service.repository.model import Model
from service.repository.repository import Repository
from service.schemas import VersionState

SERVER: ServerMetadata = {
    "name": "sightglass",
    "version": __version__,
    "extensions": ["binary_tensor_data", "classification", "model_configuration"],
}
PLATFORM = "onnxruntime_onnx"


def list_versions(repository: Repository) -> list[IndexEntry]:
    """Return every version in the repository, with its state."""
    return [
        _describe_entry(model["name"], version)
        for model in repository.describe_all()
        for version in model["versions"]
    ]


def describe_model(model: Model, repository: Repository) -> ModelMetadata:
    """Return the tensors of a model, and its versions that answer."""
    return {
        "name": model.name,
        "versions": repository.list_served(model.name),
        "platform": PLATFORM,
        "inputs": list_metadata(describe_inputs(model)),
        "outputs": list_metadata(describe_outputs(model)),
    }


def _describe_entry(name: str, version: VersionState) -> IndexEntry:
    """Describe a version. If only its reload failed, it still serves, so it is ready."""
    is_served = version["provider"] is not None
    unserved: Literal["LOADING", "UNAVAILABLE"] = (
        "LOADING" if version["state"] == "loading" else "UNAVAILABLE"
    )
    return {
        "name": name,
        "version": version["version"],
        "state": "READY" if is_served else unserved,
        "reason": version["reason"] or "",
    }
