"""The calls about the service itself: alive, ready, models, metrics."""

import asyncio
from collections.abc import Sequence
from os import SEEK_CUR

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from service import errors
from service.api.operations import MODEL_ERRORS, JsonObject, Operation
from service.api.prometheus import render_metrics, set_gauges
from service.api.routing import Endpoint
from service.errors import BadRequest
from service.http.form import JSON_TYPE
from service.http.request import Request
from service.http.response import JSONResponse, encode_json
from service.http.shared_result import SharedResult, SharedResults
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.lifecycle import Lifecycle
from service.long_answers import AnswerBuffer, iterate_json
from service.repository.attention import Comparison
from service.repository.model import ListedModel, Model
from service.repository.repository import Repository
from service.schemas import AttentionAnswer, ModelEntry, Models, Readiness

ALIVE: JsonObject = {"type": "object", "additionalProperties": {"type": "boolean"}}
VERSION: JsonObject = {
    "name": "version",
    "in": "query",
    "description": "The version; default: the one that answers",
    "schema": {"type": "string"},
}


MAX_CARD_BYTES = 16_777_216  # of all cards in one answer
NO_CARD = b"null"


class StatusEndpoints:
    """`/livez`, `/readyz`, `/metrics` and `/models`."""

    def __init__(
        self,
        repository: Repository,
        lifecycle: Lifecycle,
        admission: Admission,
        classifier: Classifier,
    ) -> None:
        self._classifier = classifier
        self._repository = repository
        self._lifecycle = lifecycle
        self._admission = admission
        self._describing = asyncio.Lock()  # more threads at once would delay the event loop
        self._page = SharedResult(self._render_metrics)
        self._all_models = SharedResult(self._describe_all)
        self._one_model = SharedResults(self._describe_one)
        self._attention = SharedResults(self._describe_attention)

    def endpoints(self) -> list[Endpoint]:
        """Return this part of the route table."""
        attention_errors = (errors.BadRequest, *MODEL_ERRORS)
        return [
            Endpoint("GET", "/models", self.models, Operation(
                "models", "List all models and their versions", {JSON_TYPE: Models},
            )),
            Endpoint("GET", "/models/{name}", self.model, Operation(
                "model", "Describe one model", {JSON_TYPE: ModelEntry}, (errors.ModelNotFound,),
            )),
            Endpoint("GET", "/models/{name}/attention", self.attention, Operation(
                "attention",
                "Compare where a model looks now with where it looked at its export",
                {JSON_TYPE: AttentionAnswer}, attention_errors, query=(VERSION,),
            )),
            Endpoint("GET", "/livez", self.livez, Operation(
                "livez", "Say whether the process is alive", {JSON_TYPE: ALIVE},
            )),
            Endpoint("GET", "/readyz", self.readyz, Operation(
                "readyz",
                "Say whether the server is ready for requests",
                {JSON_TYPE: Readiness}, not_ready="Not ready, with the reasons",
            )),
            Endpoint("GET", "/metrics", self.metrics, Operation(
                "metrics", "Return the metrics for Prometheus", {"text/plain": {}},
            )),
        ]  # fmt: skip

    def reasons_not_ready(self) -> list[str]:
        """Return why requests should go to another server; empty if this one is ready."""
        reasons = ["This server is draining."] if self._lifecycle.draining else []
        reasons += self._repository.reasons_not_ready()
        return reasons + self._classifier.decoder.reasons_not_ready()

    async def livez(self, _: Request) -> Response:
        """`GET /livez`: the process answers."""
        return JSONResponse({"alive": True})

    async def readyz(self, _: Request) -> Response:
        """`GET /readyz`: whether requests should be sent here, and if not, why."""
        reasons = self.reasons_not_ready()
        readiness: Readiness = {
            "ready": not reasons,
            "reasons": reasons,
            "provider": self._repository.provider(),
        }
        return JSONResponse(readiness, 503 if reasons else 200)

    async def models(self, _: Request) -> Response:
        """`GET /models`: all models in the repository."""
        return Response(await self._all_models.get(), media_type=JSON_TYPE)

    async def model(self, request: Request) -> Response:
        """`GET /models/<name>`: one model."""
        content = await self._one_model.get(request.path_params["name"])
        return Response(content, media_type=JSON_TYPE)

    async def _describe_one(self, name: str) -> bytes:
        async with self._describing:
            return await asyncio.to_thread(encode_models, [self._repository.describe(name)])

    async def _describe_all(self) -> bytes:
        entries = self._repository.describe_all()
        return b'{"models":[%b]}' % await asyncio.to_thread(encode_models, entries)

    async def _render_metrics(self) -> bytes:
        set_gauges(self._admission)
        entries = self._repository.describe_all()
        return await asyncio.to_thread(render_metrics, entries, self._repository.loaded())

    async def attention(self, request: Request) -> Response:
        """`GET /models/<name>/attention`: where the model looks now and looked at its export."""
        await self._admission.loop_time.take()  # a long query takes milliseconds
        query = request.query
        if any(parameter != "version" for parameter, _ in query) or len(query) > 1:
            raise BadRequest("The only parameter here is 'version': give it once or not at all.")
        reference = "/".join([request.path_params["name"], *(version for _, version in query)])
        return Response(await self._attention.get(reference), media_type=JSON_TYPE)

    async def _describe_attention(self, reference: str) -> bytes:
        """Return the answer on the attention of a model; its bytes count while it is made."""
        model = self._repository.find(reference)
        memory, size = self._admission.memory, model.attention.count_answer_bytes()
        async with self._describing:
            self._admission.check_response(size)
            memory.hold_response(size)
            try:
                return await asyncio.to_thread(encode_attention, model)
            finally:
                memory.hold_response(-size)

    async def metrics(self, _: Request) -> Response:
        """`GET /metrics`: the page for Prometheus."""
        return Response(await self._page.get(), media_type=CONTENT_TYPE_LATEST)


def encode_models(entries: Sequence[ListedModel]) -> bytes:
    """Return the entries as JSON. Many of them would stop the event loop.

    The cards of the first versions have at most `MAX_CARD_BYTES` together. The others are null.
    """
    left = MAX_CARD_BYTES
    encoded = []
    for entry in entries:
        versions = []
        for version in entry["versions"]:
            card = version["card"] or NO_CARD
            left -= len(card)
            card = card if left >= 0 else NO_CARD
            rest = encode_json({name: part for name, part in version.items() if name != "card"})
            versions.append(b'%b,"card":%b}' % (rest[:-1], card))
        head = encode_json({name: part for name, part in entry.items() if name != "versions"})
        encoded.append(b'%b,"versions":[%b]}' % (head[:-1], b",".join(versions)))
    return b",".join(encoded)


def encode_attention(model: Model) -> bytes:
    """Return the mean maps of a model as JSON. At once, they would stop the event loop."""
    whole, classes = model.attention.describe()
    head = {"model": model.name, "version": model.version, **_list_maps(whole)}
    buffer = AnswerBuffer()
    buffer.add(iterate_json(head))
    buffer.seek(-1, SEEK_CUR)  # before its closing brace
    buffer.write(b',"classes":{')
    before = b""
    for label, compared in classes:
        buffer.write(b"%b%b:" % (before, encode_json(label)))
        buffer.add(iterate_json(_list_maps(compared)))
        before = b","
    buffer.write(b"}}")
    return buffer.getvalue()


def _list_maps(compared: Comparison) -> JsonObject:
    observed, reference, distance = compared
    known = reference._asdict() if reference else None
    return {"observed": observed._asdict(), "reference": known, "distance": distance}
