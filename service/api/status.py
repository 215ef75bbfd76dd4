"""The calls about the service itself: alive, ready, models, metrics."""

import asyncio
from functools import partial

from starlette.responses import Response

from service import errors
from service.api.operations import MODEL_ERRORS, JsonObject, Operation
from service.api.prometheus import render_metrics, set_gauges
from service.api.routing import Endpoint
from service.errors import BadRequest
from service.http.form import JSON_TYPE
from service.http.request import Request
from service.http.response import JSONResponse, encode_json
from service.inference.admission import Admission
from service.inference.classifier import Classifier
from service.lifecycle import Lifecycle
from service.repository.repository import Repository
from service.schemas import AttentionAnswer, ModelEntry, Models, Readiness

ALIVE: JsonObject = {"type": "object", "additionalProperties": {"type": "boolean"}}
VERSION: JsonObject = {
    "name": "version",
    "in": "query",
    "description": "The version; default: the one that answers",
    "schema": {"type": "string"},
}


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
        names = self._repository.names()
        return JSONResponse({"models": [self._repository.describe(name) for name in names]})

    async def model(self, request: Request) -> Response:
        """`GET /models/<name>`: one model."""
        return JSONResponse(self._repository.describe(request.path_params["name"]))

    async def attention(self, request: Request) -> Response:
        """`GET /models/<name>/attention`: where the model looks now and looked at its export."""
        query = request.query
        if any(parameter != "version" for parameter, _ in query) or len(query) > 1:
            raise BadRequest("The only parameter here is 'version': give it once or not at all.")
        reference = "/".join([request.path_params["name"], *(version for _, version in query)])
        model = self._repository.find(reference)
        describe = partial(model.attention.describe, model.name, model.version)
        async with self._describing:
            content = await asyncio.to_thread(lambda: encode_attention(describe()))
        return Response(content, media_type=JSON_TYPE)

    async def metrics(self, _: Request) -> Response:
        """`GET /metrics`: the page for Prometheus."""
        set_gauges(self._admission)
        page, media_type = render_metrics(self._repository)
        return Response(page, media_type=media_type)


def encode_attention(answer: AttentionAnswer) -> bytes:
    """Return the answer as JSON. At once, its many classes would stop the event loop."""
    classes = (
        b"%b:%b" % (encode_json(label), encode_json(compared))
        for label, compared in answer["classes"].items()
    )
    whole = encode_json({name: part for name, part in answer.items() if name != "classes"})
    return b'%b,"classes":{%b}}' % (whole[:-1], b",".join(classes))
