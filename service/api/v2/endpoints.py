"""The Open Inference Protocol (`/v2`): the calls of Triton's and KServe's clients.

Its rows share queue, limits and batches with everybody's. Which tensors a model takes and gives is
`signature`'s to know, how they are written `tensors`'.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal

from service.api.endpoints import admit, answer_json, find_model, read_body
from service.api.status import StatusEndpoints
from service.api.v2.schemas import (
    IndexEntry,
    InferCall,
    ModelConfig,
    ModelMetadata,
    ServerMetadata,
    TensorConfig,
    TensorMetadata,
)
from service.api.v2.signature import (
    IMAGE,
    TARGET,
    Image,
    Signature,
    describe_inputs,
    describe_outputs,
    make_outputs,
    read_images,
    read_inputs,
    read_outputs,
    read_targets,
)
from service.api.v2.tensors import OutputTensor, read_call, write_answer
from service.http.compression import compress_response, decompress_body
from service.http.form import JSON_TYPE
from service.http.request import DisconnectWatch, Request, Response
from service.imaging.saliency import is_empty
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.repository.repository import Model, Repository
from service.runtime.batcher import Answer
from service.schemas import MAX_BATCH_IMAGES, ModelVersion
from service.settings import Settings
from service.telemetry import metrics
from service.telemetry.timings import Timings

SERVER: ServerMetadata = {
    "name": "sightglass",
    "version": "1",
    "extensions": ["binary_tensor_data", "classification", "model_configuration"],
}
PLATFORM = "onnxruntime_onnx"
BINARY_TYPE = "application/octet-stream"
JSON_LENGTH = "inference-header-content-length"
INDEX_BYTES = 4096  # of a body that says nothing we need


class V2Endpoints:
    """Each call is a function of a request."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        admission: Admission,
        classifier: Classifier,
        status: StatusEndpoints,
    ) -> None:
        self._max_request_bytes = settings.max_request_bytes
        self._max_images = min(MAX_BATCH_IMAGES, settings.max_queue_size)
        self._repository = repository
        self._admission = admission
        self._classifier = classifier
        self._status = status

    async def server(self, _: Request) -> Response:
        """`GET /v2`: what this server is and can."""
        return answer_json(SERVER)

    async def live(self, _: Request) -> Response:
        """`GET /v2/health/live`: the process answers."""
        return answer_json({"live": True})

    async def ready(self, _: Request) -> Response:
        """`GET /v2/health/ready`: whether requests should be sent here."""
        is_ready = not self._status.reasons_not_ready()
        return answer_json({"ready": is_ready}, 200 if is_ready else 503)

    async def index(self, request: Request) -> Response:
        """`POST /v2/repository/index`: every version in the tree."""
        await request.read_body(INDEX_BYTES, lambda _: None)
        names = self._repository.names()
        entries = [
            _describe_entry(name, version)
            for name in names
            for version in self._repository.describe(name)["versions"]
        ]
        return answer_json(entries)

    async def model(self, request: Request, name: str, version: str = "") -> Response:
        """`GET /v2/models/<name>`: the tensors it takes and gives."""
        model = self._find(request, name, version)
        versions = self._repository.describe(name)["versions"]
        metadata: ModelMetadata = {
            "name": name,
            "versions": [told["version"] for told in versions if told["provider"]],
            "platform": PLATFORM,
            "inputs": _describe_tensors(describe_inputs(model)),
            "outputs": _describe_tensors(describe_outputs(model)),
        }
        return answer_json(metadata)

    async def model_ready(self, request: Request, name: str, version: str = "") -> Response:
        """`GET /v2/models/<name>/ready`: whether it can answer."""
        self._find(request, name, version)
        return answer_json({"name": name, "ready": True})

    async def config(self, request: Request, name: str, version: str = "") -> Response:
        """`GET /v2/models/<name>/config`: the same as a Triton configuration."""
        model = self._find(request, name, version)
        inputs = _configure_tensors(describe_inputs(model))
        for tensor in inputs:
            tensor["optional"] = tensor["name"] == TARGET
        kind = "KIND_GPU" if model.provider == "cuda" else "KIND_CPU"
        config: ModelConfig = {
            "name": name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "max_batch_size": self._max_images,  # of one request
            "input": inputs,
            "output": _configure_tensors(describe_outputs(model)),
            "dynamic_batching": {"preferred_batch_size": [model.batcher.max_batch_size]},
            "instance_group": [{"kind": kind, "count": 1}],
        }
        return answer_json(config)

    async def infer(self, request: Request, name: str, version: str = "") -> Response:
        """`POST /v2/models/<name>/infer`: N pictures, each a row among everybody's."""
        model = self._find(request, name, version)
        limit = self._max_request_bytes
        with admit(request, self._admission, limit) as permit:
            packed = await read_body(request, permit, limit)
            encoding = request.header(b"content-encoding")
            body = await decompress_body(packed, encoding, limit, permit.add_body)
            call = read_call(body, request.header(JSON_LENGTH.encode()))
            wanted = read_outputs(call)
            tensors = read_inputs(call)
            images = read_images(tensors[IMAGE], model)
            targets = read_targets(tensors.get(TARGET), len(images), model)
            request.images = request.log_fields["images"] = len(images)
            permit.add_images(len(images) - 1)
            with DisconnectWatch(request):
                answers = await self._answer(images, targets, model, request.timings)
            permit.answered = True
        response = make_response(call, make_outputs(call, wanted, answers, model.labels), model)
        await compress_response(response, request.header(b"accept-encoding"))
        return response

    def _find(self, request: Request, name: str, version: str) -> Model:
        return find_model(self._repository, f"{name}/{version}" if version else name, request)

    async def _answer(
        self, images: Sequence[Image], targets: list[list[int]], model: Model, timings: Timings
    ) -> list[Answer]:
        """One answer an image; one that fails, fails the call, when the others are through."""

        async def answer_one(image: Image, asked: list[int]) -> Answer:
            if isinstance(image, bytes):
                return (await self._classifier.classify(image, model, asked, timings)).answer
            return await self._classifier.run(image, model, asked, timings)

        answers = await asyncio.gather(*map(answer_one, images, targets), return_exceptions=True)
        fault = next((answer for answer in answers if isinstance(answer, BaseException)), None)
        try:
            if fault:
                raise fault
            found = [answer for answer in answers if isinstance(answer, Answer)]
        finally:
            del answers, fault  # a fault that holds this frame must not be held by it: see `Door`
        empty = [is_empty(cam) for answer in found for cam in answer.cam]
        metrics.count_maps(model.name, len(empty), sum(empty))
        return found


def make_response(call: InferCall, outputs: list[OutputTensor], model: Model) -> Response:
    """JSON, or JSON and the binary data after it."""
    head = {"model_name": model.name, "model_version": model.version}
    if call.id is not None:
        head = {"id": call.id, **head}
    body, json_length = write_answer(head, outputs)
    if json_length is None:
        return Response(body, JSON_TYPE)
    return Response(body, BINARY_TYPE, headers={JSON_LENGTH: str(json_length)})


def _describe_entry(name: str, version: ModelVersion) -> IndexEntry:
    """A version that failed to load anew goes on being served as it was, so it is ready."""
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


def _describe_tensors(tensors: Signature) -> list[TensorMetadata]:
    return [
        {"name": name, "datatype": datatype, "shape": shape}
        for name, (datatype, shape) in tensors.items()
    ]


def _configure_tensors(tensors: Signature) -> list[TensorConfig]:
    """Triton's configuration leaves N out."""
    return [
        {"name": name, "data_type": f"TYPE_{datatype}", "dims": shape[1:]}
        for name, (datatype, shape) in tensors.items()
    ]
