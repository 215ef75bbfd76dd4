"""KServe's V1 protocol (`/v1`): a thin adapter to the calls with several images.

Its requests share queue, limits and batches with the other calls.
"""

from functools import partial

from starlette.responses import Response
from typing_extensions import TypedDict

from service import errors
from service.api.endpoints import EXPLAIN_ERRORS, PREDICT_ERRORS, ImageEndpoints
from service.api.image_receiver import ReadBody
from service.api.operations import Operation
from service.api.routing import Endpoint
from service.api.v1.instances import InstancesBody, read_instances
from service.errors import NotReady
from service.http.form import JSON_TYPE
from service.http.request import Request
from service.http.response import JSONResponse
from service.parameters import ExplainOptions, PredictOptions
from service.repository.repository import Repository
from service.schemas import ErrorAnswer, Result, SegmentationResult


class Predictions(TypedDict):
    """The result of each instance, in the order sent."""

    predictions: list[Result | SegmentationResult | ErrorAnswer]


class Explanations(TypedDict):
    """The result of each instance with its explanations, in the order sent."""

    explanations: list[Result | SegmentationResult | ErrorAnswer]


class ModelNames(TypedDict):
    """The names of all models."""

    models: list[str]


class ModelStatus(TypedDict):
    """Whether a model can answer."""

    name: str
    ready: bool


class V1Endpoints:
    """The list of models, whether a model is ready, `:predict` and `:explain`."""

    def __init__(
        self, repository: Repository, images: ImageEndpoints, max_upload_bytes: int
    ) -> None:
        self._repository = repository
        self._images = images
        self._max_upload_bytes = max_upload_bytes

    def endpoints(self) -> list[Endpoint]:
        """Return this part of the route table."""
        return [
            Endpoint("GET", "/v1/models", self.models, Operation(
                "v1Models", "List the names of all models", {JSON_TYPE: ModelNames},
            )),
            Endpoint("POST", "/v1/models/{name}:predict", self.predict, Operation(
                "v1Predict", "Predict several images; each succeeds or fails alone",
                {JSON_TYPE: Predictions}, PREDICT_ERRORS, InstancesBody(PredictOptions),
            )),
            Endpoint("POST", "/v1/models/{name}:explain", self.explain, Operation(
                "v1Explain", "Explain several images in numbers; each succeeds or fails alone",
                {JSON_TYPE: Explanations}, EXPLAIN_ERRORS, InstancesBody(ExplainOptions),
            )),
            Endpoint("GET", "/v1/models/{name}", self.model, Operation(
                "v1Model", "Say whether a model is ready",
                {JSON_TYPE: ModelStatus}, (errors.ModelNotFound,),
                not_ready="The model is not ready",
            )),
        ]  # fmt: skip

    async def models(self, _: Request) -> Response:
        """`GET /v1/models`: the names of all models."""
        return JSONResponse({"models": self._repository.names()})

    async def model(self, request: Request) -> Response:
        """`GET /v1/models/<name>`: whether the model can answer."""
        name = request.path_params["name"]
        try:
            self._repository.find(name)
        except NotReady:
            return JSONResponse({"name": name, "ready": False}, 503)
        return JSONResponse({"name": name, "ready": True})

    async def predict(self, request: Request) -> Response:
        """`POST /v1/models/<name>:predict`: the most probable labels of several images."""
        read = self._make_reader(request)
        return await self._images.predict_each(request, lambda _: b'{"predictions":', read)

    async def explain(self, request: Request) -> Response:
        """`POST /v1/models/<name>:explain`: explain several images in numbers."""
        read = self._make_reader(request)
        return await self._images.explain_each(request, lambda _: b'{"explanations":', read)

    def _make_reader(self, request: Request) -> ReadBody:
        name = request.path_params["name"]
        return partial(read_instances, model=name, max_image_bytes=self._max_upload_bytes)
