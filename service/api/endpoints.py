"""The calls on images: predict and explain, one image or a batch."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar
from urllib.parse import quote

from pydantic_core import to_json
from starlette.responses import Response

from service import errors
from service.api.image_body import ImageBody
from service.api.operations import INFERENCE_ERRORS, JsonObject, Operation
from service.api.options import read_options
from service.api.routing import Endpoint
from service.api.upload import UploadReception, add_images, find_model, get_images, get_single_image
from service.errors import ApiError, BadRequest, InternalError
from service.http.form import JSON_TYPE, Form, read_form
from service.http.negotiation import choose_media_type
from service.http.request import Request
from service.http.response import JSONResponse
from service.imaging.heatmap import ENCODINGS
from service.inference.admission import Admission, Permit
from service.inference.classifier import Classifier
from service.inference.explainer import Explainer, ExplainRequest, check_labels
from service.inference.results import make_result
from service.repository.repository import Model, Repository
from service.schemas import (
    Answer,
    BatchAnswer,
    ErrorAnswer,
    ExplainOptions,
    PredictOptions,
    Result,
)
from service.settings import Settings
from service.telemetry.log import with_fields
from service.telemetry.timings import Timings

FORM_OVERHEAD_BYTES = 65_536  # boundaries, names and parameters around one image
PICTURES = tuple(ENCODINGS)
PICTURE: JsonObject = {"type": "string", "format": "binary"}
PREDICT_ERRORS = (*INFERENCE_ERRORS, errors.NotAcceptable)
EXPLAIN_ERRORS = (*PREDICT_ERRORS, errors.UnknownLabel)

Images = TypeVar("Images")
Options = TypeVar("Options", bound=PredictOptions)
ClassifyImage = Callable[[bytes, Model, Options, Timings, Permit], Awaitable[Result]]
log = logging.getLogger(__name__)


class ImageEndpoints:
    """`/predict` and `/gradcam`, and the same for batches."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository,
        admission: Admission,
        classifier: Classifier,
    ) -> None:
        self._max_upload_bytes = settings.max_upload_bytes
        self._max_request_bytes = settings.max_request_bytes
        self._repository = repository
        self._admission = admission
        self._classifier = classifier
        self._explainer = Explainer(classifier)

    def endpoints(self) -> list[Endpoint]:
        """Return this part of the route table."""
        explained = {**dict.fromkeys(PICTURES, PICTURE), JSON_TYPE: Answer}
        return [
            Endpoint("POST", "/predict", self.predict, Operation(
                "predict",
                "Return the most probable labels of one image",
                {JSON_TYPE: Answer}, PREDICT_ERRORS, ImageBody(PredictOptions),
            )),
            Endpoint("POST", "/predict/batch", self.predict_batch, Operation(
                "predictBatch",
                "Predict several images; each succeeds or fails alone",
                {JSON_TYPE: BatchAnswer}, PREDICT_ERRORS, ImageBody(PredictOptions, is_batch=True),
            )),
            Endpoint("POST", "/gradcam", self.gradcam, Operation(
                "gradcam",
                "Explain a prediction with a heatmap, as a picture or as numbers",
                explained, EXPLAIN_ERRORS, ImageBody(ExplainOptions),
            )),
            Endpoint("POST", "/gradcam/batch", self.gradcam_batch, Operation(
                "gradcamBatch",
                "Explain several images in numbers; each succeeds or fails alone",
                {JSON_TYPE: BatchAnswer}, EXPLAIN_ERRORS, ImageBody(ExplainOptions, is_batch=True),
            )),
        ]  # fmt: skip

    async def predict(self, request: Request) -> Response:
        """`POST /predict`: return the most probable labels of one image."""
        choose_media_type(request.header("accept"), [JSON_TYPE])
        async with self._receive_single(request) as (body, permit):
            image, options = await self._read(request, body, get_single_image, PredictOptions)
            model = find_model(self._repository, options.model, request)
            result = await self._predict(image, model, options, request.timings, permit)
        return JSONResponse({"model": model.name, "version": model.version, **result})

    async def gradcam(self, request: Request) -> Response:
        """`POST /gradcam`: explain the prediction of one image, as a picture or in numbers."""
        media_type = choose_media_type(request.header("accept"), [*PICTURES, JSON_TYPE])
        async with self._receive_single(request) as (body, permit):
            image, options = await self._read(request, body, get_single_image, ExplainOptions)
            if media_type != JSON_TYPE:
                check_single_target(options)
            model = find_model(self._repository, options.model, request)
            explained = ExplainRequest(image, model, options, request.timings, permit.add_answer)
            if media_type == JSON_TYPE:
                response = await self._explain(explained)
            else:
                response = await self._draw(explained, media_type)
        response.headers["vary"] = "Accept"
        return response

    async def predict_batch(self, request: Request) -> Response:
        """`POST /predict/batch`: predict several images."""
        return await self._answer_batch(request, PredictOptions, self._predict)

    async def gradcam_batch(self, request: Request) -> Response:
        """`POST /gradcam/batch`: explain several images in numbers."""
        return await self._answer_batch(request, ExplainOptions, self._explain_one)

    async def _predict(
        self,
        content: bytes,
        model: Model,
        options: PredictOptions,
        timings: Timings,
        _: Permit,
    ) -> Result:
        classification = await self._classifier.classify(content, model, (), timings)
        return make_result(classification, model, options.top_k)

    async def _explain_one(
        self,
        content: bytes,
        model: Model,
        options: ExplainOptions,
        timings: Timings,
        permit: Permit,
    ) -> Result:
        return await self._explainer.explain(
            ExplainRequest(content, model, options, timings, permit.add_answer)
        )

    async def _explain(self, explained: ExplainRequest) -> Response:
        result = await self._explainer.explain(explained)
        model = explained.model
        answer = {"model": model.name, "version": model.version, **result}
        return await self._write_json(answer, explained.options)

    async def _draw(self, explained: ExplainRequest, media_type: str) -> Response:
        rendering = await self._explainer.draw(explained, media_type)
        headers = {
            "x-model": f"{explained.model.name}/{explained.model.version}",
            "x-predicted-label": quote(rendering.predicted["label"], safe=""),
            "x-target-label": quote(rendering.target["label"], safe=""),
            "x-target-probability": f"{rendering.target['probability']:.6g}",
        }
        if rendering.verification:
            headers["x-verification"] = to_json(rendering.verification).decode()
        return Response(rendering.content, headers=headers, media_type=media_type)

    async def _answer_batch(
        self, request: Request, kind: type[Options], classify: ClassifyImage[Options]
    ) -> Response:
        choose_media_type(request.header("accept"), [JSON_TYPE])
        limit = self._max_request_bytes
        async with UploadReception(request, self._admission, limit) as (body, permit):
            images, options = await self._read(request, body, get_images, kind)
            model = find_model(self._repository, options.model, request)
            if isinstance(options, ExplainOptions):
                check_labels(options, model)  # an error of the request, not of one image
            add_images(request, permit, len(images))

            async def answer_image(image: bytes | BadRequest) -> Result | ErrorAnswer:
                try:
                    if isinstance(image, BadRequest):
                        raise image
                    return await classify(image, model, options, request.timings, permit)
                except ApiError as exc:
                    if isinstance(exc, InternalError):
                        log.exception("image failed", extra=with_fields(request_id=request.id))
                    return {"error": exc.body(request.id)}

            results = await asyncio.gather(*map(answer_image, images))
            answer = {"model": model.name, "version": model.version, "results": results}
            return await self._write_json(answer, options)

    async def _write_json(self, answer: JsonObject, options: PredictOptions) -> Response:
        """Write an answer. With pictures it is large, so a thread does it."""
        if isinstance(options, ExplainOptions) and options.view is not None:
            return await self._classifier.decoder.run_in_thread(partial(JSONResponse, answer), None)
        return JSONResponse(answer)

    def _receive_single(self, request: Request) -> UploadReception:
        """Receive one image. Base64 needs four bytes for three."""
        content_type = request.header("content-type").lower()
        limit = self._max_upload_bytes
        if content_type.startswith(JSON_TYPE):
            limit = limit * 4 // 3 + FORM_OVERHEAD_BYTES
        elif content_type.startswith("multipart/"):
            limit += FORM_OVERHEAD_BYTES
        return UploadReception(request, self._admission, min(limit, self._max_request_bytes))

    async def _read(
        self,
        request: Request,
        body: bytes,
        select: Callable[[Form], Images],
        kind: type[Options],
    ) -> tuple[Images, Options]:
        """Read the form of a received body: what `select` takes of its images, and the options."""
        form = read_form(request.header("content-type"), body, request.query)
        await self._admission.yield_to_backlog()
        return select(form), read_options(kind, form)


def check_single_target(options: ExplainOptions) -> None:
    """Check that a picture is asked for one target alone.

    Raises:
        BadRequest: There is more than one target.
    """
    if len(options.target) > 1 or (options.target_top or 1) > 1:
        raise BadRequest(
            "A picture shows one target: ask for one, or for JSON with 'Accept: application/json'."
        )
