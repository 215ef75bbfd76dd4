"""The calls of the Open Inference Protocol over gRPC.

They share queue, limits and batches with all other calls, and what they say with those of `/v2`.
This module does not know how messages are written.
"""

import asyncio
from functools import partial
from itertools import chain
from typing import NamedTuple

from starlette.responses import Response

from service import errors
from service.api.grpc.requests import (
    InferMessage,
    read_index_request,
    read_infer_request,
    read_named_model,
)
from service.api.grpc.responses import (
    write_index,
    write_infer_response,
    write_liveness,
    write_model_metadata,
    write_server_metadata,
)
from service.api.routing import Handler, Route
from service.api.status import StatusEndpoints
from service.api.upload import (
    UploadReception,
    add_images,
    find_model,
    note_model,
    note_warnings,
)
from service.api.v2.answering import answer_images, warn_of
from service.api.v2.answers import count_values, make_outputs
from service.api.v2.endpoints import INDEX_BYTES
from service.api.v2.infer import InferRequest, fit_request
from service.api.v2.metadata import SERVER, describe_model, list_versions
from service.artifact.layout import make_reference
from service.http.body import Body
from service.http.compression import decompress_body
from service.http.request import Request
from service.http.response import encode_json
from service.http.shared_result import SharedResult
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.long_answers import PIECE_VALUES, AnswerBuffer, write_in_pieces
from service.repository.model import Model
from service.repository.repository import Repository
from service.settings import Settings

SERVICE = "/inference.GRPCInferenceService"
SERVER_LIVE, SERVER_READY = f"{SERVICE}/ServerLive", f"{SERVICE}/ServerReady"
SERVER_METADATA, INDEX = f"{SERVICE}/ServerMetadata", f"{SERVICE}/RepositoryIndex"
EQUIVALENTS = {  # over HTTP, as they stand in the setting PUBLIC_PATHS
    SERVER_LIVE: "/v2/health/live",
    SERVER_READY: "/v2/health/ready",
    SERVER_METADATA: "/v2",
    INDEX: "/v2/repository/index",
}


class Inference(NamedTuple):
    """What a call of ModelInfer asks for, and of which model."""

    inputs: InferRequest
    model: Model
    is_raw: bool


class GrpcEndpoints:
    """The server, its models, and inference."""

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
        self._repository = repository
        self._admission = admission
        self._classifier = classifier
        self._status = status
        self._whole_index = SharedResult(self._write_index)
        self._ready_index = SharedResult(partial(self._write_index, only_ready=True))

    def endpoints(self) -> list[Route]:
        """Return the route table of the port for gRPC."""
        handlers: dict[str, Handler] = {
            SERVER_LIVE: self.live,
            SERVER_READY: self.ready,
            SERVER_METADATA: self.server,
            INDEX: self.index,
            f"{SERVICE}/ModelReady": self.model_ready,
            f"{SERVICE}/ModelMetadata": self.model,
            f"{SERVICE}/ModelInfer": self.infer,
        }
        return [Route("POST", path, handler) for path, handler in handlers.items()]

    async def live(self, request: Request) -> Response:
        """ServerLive: the process answers."""
        await self._read_message(request)
        return Response(write_liveness(True))

    async def ready(self, request: Request) -> Response:
        """ServerReady: whether requests should be sent here."""
        await self._read_message(request)
        return Response(write_liveness(not self._status.reasons_not_ready()))

    async def server(self, request: Request) -> Response:
        """ServerMetadata: name, version and extensions of this server."""
        await self._read_message(request)
        return Response(write_server_metadata(SERVER))

    async def index(self, request: Request) -> Response:
        """RepositoryIndex: every version in the repository, or those that are ready."""
        only_ready = read_index_request(await self._read_message(request))
        index = self._ready_index if only_ready else self._whole_index
        return Response(await index.get())

    async def _write_index(self, *, only_ready: bool = False) -> bytes:
        entries = list_versions(self._repository)
        if only_ready:
            entries = [entry for entry in entries if entry["state"] == "READY"]
        return await asyncio.to_thread(write_index, entries)

    async def model_ready(self, request: Request) -> Response:
        """ModelReady: whether a model can answer."""
        try:
            await self._find(request)
        except errors.NotReady:
            return Response(write_liveness(False))
        return Response(write_liveness(True))

    async def model(self, request: Request) -> Response:
        """ModelMetadata: the tensors of a model."""
        model = await self._find(request)
        return Response(write_model_metadata(describe_model(model, self._repository)))

    async def infer(self, request: Request) -> Response:
        """ModelInfer: run the model on N images."""
        upload = UploadReception(
            request, self._admission, self._max_request_bytes, self._read_inference, is_raw=True
        )
        async with upload as ((inputs, model, is_raw), permit):
            note_model(request, model)
            add_images(request, permit, len(inputs.images), model)
            answers = await answer_images(inputs, model, self._classifier, request.timings, permit)
            warnings = [warn_of(answer, model) for answer in answers]
            note_warnings(request, list(chain.from_iterable(warnings)))
            call, wanted = inputs.call, inputs.wanted
            del inputs

            def respond(buffer: AnswerBuffer) -> Response:
                outputs = make_outputs(call, wanted, answers, model.labels)
                text = encode_json(warnings).decode()
                names = (model.name, model.version)
                write_infer_response(buffer, call.id, names, outputs, is_raw, text)
                return Response(buffer.getvalue())

            is_short = count_values(wanted, answers) <= PIECE_VALUES
            return respond(AnswerBuffer()) if is_short else await write_in_pieces(respond)

    def _read_inference(self, body: Body) -> Inference:
        """Read a message and find its model, whose name is in it. May run in a thread."""
        message: InferMessage = read_infer_request(body)
        model = self._repository.find(message.model)
        inputs = fit_request(message.call, model, self._max_upload_bytes)
        return Inference(inputs, model, message.is_raw)

    async def _find(self, request: Request) -> Model:
        name, version = read_named_model(await self._read_message(request))
        return find_model(self._repository, make_reference(name, version), request)

    async def _read_message(self, request: Request) -> Body:
        """Read a message that says hardly anything."""
        body = await request.read_body(INDEX_BYTES, lambda _: None)
        if encoding := request.header("content-encoding"):
            take_time = self._admission.loop_time.take
            body = await decompress_body(body, encoding, INDEX_BYTES, lambda _: None, take_time)
        return body
