"""The Open Inference Protocol (`/v2`): the calls of Triton's and KServe's clients.

These requests share queue, limits and batches with the other calls. `signature` knows which tensors
a model has, and `tensors` knows how they are encoded.
"""

import asyncio
from functools import partial
from itertools import chain

from starlette.responses import Response

from service import errors
from service.api.operations import INFERENCE_ERRORS, MODEL_ERRORS, Operation
from service.api.routing import Endpoint
from service.api.status import StatusEndpoints
from service.api.upload import UploadReception, add_images, find_model, note_warnings
from service.api.v2.answering import answer_images, warn_of
from service.api.v2.answers import count_values, make_outputs
from service.api.v2.infer import JSON_LENGTH, make_response, read_request
from service.api.v2.metadata import PLATFORM, SERVER, describe_model, list_versions
from service.api.v2.operations import BINARY, BINARY_TYPE, InferBody
from service.api.v2.schemas import (
    Index,
    InferAnswer,
    Liveness,
    ModelConfig,
    ModelMetadata,
    ModelReadiness,
    ServerMetadata,
    ServerReadiness,
)
from service.api.v2.segmentation import REGION
from service.api.v2.signature import (
    TARGET,
    describe_inputs,
    describe_outputs,
    list_config,
)
from service.artifact.layout import make_reference
from service.http.compression import compress_response
from service.http.form import JSON_TYPE
from service.http.request import Request
from service.http.response import JSONResponse, encode_json
from service.http.shared_result import SharedResult
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.long_answers import PIECE_VALUES, AnswerBuffer, write_in_pieces
from service.parameters import MAX_BATCH_IMAGES
from service.repository.model import Model
from service.repository.repository import Repository
from service.settings import Settings

MAX_INLINE_DIGITS = 4  # of the length of the JSON before binary data
INDEX_BYTES = 4096  # of a body that says nothing we need
INFER_ERRORS = (*INFERENCE_ERRORS, errors.UnknownLabel)


class V2Endpoints:
    """The server, its models, and `infer`."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        admission: Admission,
        classifier: Classifier,
        status: StatusEndpoints,
    ) -> None:
        self._max_request_bytes = settings.max_request_bytes
        self._max_upload_bytes = settings.max_upload_bytes
        self._max_images = min(MAX_BATCH_IMAGES, settings.max_queue_size)
        self._repository = repository
        self._admission = admission
        self._classifier = classifier
        self._status = status
        self._index = SharedResult(self._write_index)

    def endpoints(self) -> list[Endpoint]:
        """Return this part of the route table."""
        return [
            *self._model_endpoints("/v2/models/{name}", ""),
            *self._model_endpoints("/v2/models/{name}/versions/{version}", "Version"),
            Endpoint("GET", "/v2", self.server, Operation(
                "serverMetadata", "Describe this server", {JSON_TYPE: ServerMetadata},
            )),
            Endpoint("GET", "/v2/health/live", self.live, Operation(
                "serverLive", "Say whether the process is alive", {JSON_TYPE: Liveness},
            )),
            Endpoint("GET", "/v2/health/ready", self.ready, Operation(
                "serverReady",
                "Say whether the server is ready for requests",
                {JSON_TYPE: ServerReadiness}, not_ready="Not ready",
            )),
            Endpoint("POST", "/v2/repository/index", self.index, Operation(
                "repositoryIndex", "List all versions and their states", {JSON_TYPE: Index},
            )),
        ]  # fmt: skip

    def _model_endpoints(self, path: str, suffix: str) -> list[Endpoint]:
        """Return the endpoints of a model, or of one version of it."""
        inferred = {JSON_TYPE: InferAnswer, BINARY_TYPE: BINARY}
        return [
            Endpoint("POST", f"{path}/infer", self.infer, Operation(
                f"infer{suffix}",
                f"Run the model on up to {MAX_BATCH_IMAGES} images",
                inferred, INFER_ERRORS, InferBody(),
            )),
            Endpoint("GET", path, self.model, Operation(
                f"modelMetadata{suffix}",
                "Describe the model's tensors",
                {JSON_TYPE: ModelMetadata}, MODEL_ERRORS,
            )),
            Endpoint("GET", f"{path}/ready", self.model_ready, Operation(
                f"modelReady{suffix}",
                "Say whether the model is ready",
                {JSON_TYPE: ModelReadiness}, MODEL_ERRORS,
            )),
            Endpoint("GET", f"{path}/config", self.config, Operation(
                f"modelConfig{suffix}",
                "Describe the model as a Triton configuration",
                {JSON_TYPE: ModelConfig}, MODEL_ERRORS,
            )),
        ]  # fmt: skip

    async def server(self, _: Request) -> Response:
        """`GET /v2`: name, version and extensions of this server."""
        return JSONResponse(SERVER)

    async def live(self, _: Request) -> Response:
        """`GET /v2/health/live`: the process answers."""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """`GET /v2/health/ready`: whether requests should be sent here."""
        is_ready = not self._status.reasons_not_ready()
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    async def index(self, request: Request) -> Response:
        """`POST /v2/repository/index`: every version in the repository."""
        await request.read_body(INDEX_BYTES, lambda _: None)
        return Response(await self._index.get(), media_type=JSON_TYPE)

    async def _write_index(self) -> bytes:
        return await asyncio.to_thread(encode_json, list_versions(self._repository))

    async def model(self, request: Request) -> Response:
        """`GET /v2/models/<name>`: the tensors of a model."""
        return JSONResponse(describe_model(self._find(request), self._repository))

    async def model_ready(self, request: Request) -> Response:
        """`GET /v2/models/<name>/ready`: whether a model can answer."""
        return JSONResponse({"name": self._find(request).name, "ready": True})

    async def config(self, request: Request) -> Response:
        """`GET /v2/models/<name>/config`: the tensors as a Triton configuration."""
        model = self._find(request)
        inputs = list_config(describe_inputs(model))
        for tensor in inputs:
            tensor["optional"] = tensor["name"] in (TARGET, REGION)
        kind = "KIND_GPU" if model.provider == "cuda" else "KIND_CPU"
        config: ModelConfig = {
            "name": model.name,
            "platform": PLATFORM,
            "backend": "onnxruntime",
            "max_batch_size": self._max_images,  # of one request
            "input": inputs,
            "output": list_config(describe_outputs(model)),
            "dynamic_batching": {"preferred_batch_size": [model.batcher.max_batch_size]},
            "instance_group": [{"kind": kind, "count": 1}],
        }
        return JSONResponse(config)

    async def infer(self, request: Request) -> Response:
        """`POST /v2/models/<name>/infer`: run the model on N images."""
        model = self._find(request)
        json_length, limit = request.header(JSON_LENGTH), self._max_request_bytes
        read = partial(read_request, json_length, model, self._max_upload_bytes)
        upload = UploadReception(
            request, self._admission, limit, read, is_raw=0 < len(json_length) <= MAX_INLINE_DIGITS
        )
        async with upload as (inputs, permit):
            add_images(request, permit, len(inputs.images), model)
            answers = await answer_images(inputs, model, self._classifier, request.timings, permit)
            warnings = [warn_of(answer, model) for answer in answers]
            note_warnings(request, list(chain.from_iterable(warnings)))
            call, wanted = inputs.call, inputs.wanted
            del inputs

            def respond(buffer: AnswerBuffer) -> Response:
                outputs = make_outputs(call, wanted, answers, model.labels)
                return make_response(buffer, call, outputs, model, warnings)

            is_short = count_values(wanted, answers) <= PIECE_VALUES
            response = respond(AnswerBuffer()) if is_short else await write_in_pieces(respond)
            await compress_response(response, request.header("accept-encoding"))
        return response

    def _find(self, request: Request) -> Model:
        name, version = request.path_params["name"], request.path_params.get("version")
        return find_model(self._repository, make_reference(name, version), request)
