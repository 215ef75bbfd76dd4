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
from service.api.upload import (
    UploadReception,
    add_images,
    find_model,
    get_images,
    get_single_image,
    note_warnings,
)
from service.errors import ApiError, BadRequest, InternalError
from service.http.body import Body
from service.http.form import JSON_TYPE, Form, is_raw, read_form
from service.http.negotiation import choose_media_type
from service.http.request import Request
from service.http.response import JSONResponse, encode_json
from service.imaging.heatmap import ENCODINGS
from service.inference.admission import Admission, Permit
from service.inference.classifier import Classifier
from service.inference.explainer import Explainer, ExplainRequest, check_labels
from service.inference.results import make_result
from service.inference.room import take_turns
from service.repository.model import Model
from service.repository.repository import Repository
from service.schemas import (
    Answer,
    BatchAnswer,
    ExplainOptions,
    PredictOptions,
    Result,
)
from service.settings import Settings
from service.telemetry.log import with_fields
from service.telemetry.timings import Timings

FORM_OVERHEAD_BYTES = 65_536  # boundaries, names and parameters around one image
BASE64_FACTOR = 1.5  # four bytes for three, line breaks, and some escapes
PICTURES = tuple(ENCODINGS)
PICTURE: JsonObject = {"type": "string", "format": "binary"}
PREDICT_ERRORS = (*INFERENCE_ERRORS, errors.NotAcceptable)
EXPLAIN_ERRORS = (*PREDICT_ERRORS, errors.UnknownLabel)

Options = TypeVar("Options", bound=PredictOptions)
ReadBody = Callable[[Body], Form]
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
        async with self._receive_single(request) as (form, permit):
            await self._admission.yield_to_backlog()
            image, options = get_single_image(form), read_options(PredictOptions, form)
            model = find_model(self._repository, options.model, request)
            result = await self._predict(image, model, options, request.timings, permit)
        note_warnings(request, result["warnings"])
        return JSONResponse({"model": model.name, "version": model.version, **result})

    async def gradcam(self, request: Request) -> Response:
        """`POST /gradcam`: explain the prediction of one image, as a picture or in numbers."""
        media_type = choose_media_type(request.header("accept"), [*PICTURES, JSON_TYPE])
        async with self._receive_single(request) as (form, permit):
            await self._admission.yield_to_backlog()
            image, options = get_single_image(form), read_options(ExplainOptions, form)
            if media_type != JSON_TYPE:
                check_single_target(options)
            model = find_model(self._repository, options.model, request)
            explained = ExplainRequest(image, model, options, request.timings, permit)
            if media_type == JSON_TYPE:
                response = await self._explain(explained, request)
            else:
                response = await self._draw(explained, media_type, request)
        response.headers["vary"] = "Accept"
        return response

    async def predict_batch(self, request: Request) -> Response:
        """`POST /predict/batch`: predict several images."""
        return write_batch(*await self.predict_each(request))

    async def gradcam_batch(self, request: Request) -> Response:
        """`POST /gradcam/batch`: explain several images in numbers."""
        return write_batch(*await self.explain_each(request))

    async def predict_each(
        self, request: Request, read: ReadBody | None = None
    ) -> tuple[Model, list[bytes]]:
        """Return the model, and for each image its predictions or its error, in JSON.

        `read` reads the body. By default it is a form or the JSON of `/predict/batch`.
        """
        return await self._answer_each(request, PredictOptions, self._predict, read)

    async def explain_each(
        self, request: Request, read: ReadBody | None = None
    ) -> tuple[Model, list[bytes]]:
        """Return the same as `predict_each`, with explanations."""
        return await self._answer_each(request, ExplainOptions, self._explain_one, read)

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
            ExplainRequest(content, model, options, timings, permit)
        )

    async def _explain(self, explained: ExplainRequest, request: Request) -> Response:
        result = await self._explainer.explain(explained)
        note_warnings(request, result["warnings"])
        model = explained.model
        answer = {"model": model.name, "version": model.version, **result}
        return Response(await self._encode(answer, explained.options), media_type=JSON_TYPE)

    async def _draw(self, explained: ExplainRequest, media_type: str, request: Request) -> Response:
        rendering = await self._explainer.draw(explained, media_type)
        note_warnings(request, rendering.warnings)
        headers = {
            "x-model": f"{explained.model.name}/{explained.model.version}",
            "x-predicted-label": quote(rendering.predicted["label"], safe=""),
            "x-target-label": quote(rendering.target["label"], safe=""),
            "x-target-probability": f"{rendering.target['probability']:.6g}",
        }
        if rendering.verification:
            headers["x-verification"] = to_json(rendering.verification).decode()
        if rendering.warnings:
            headers["x-warnings"] = ", ".join(warning["code"] for warning in rendering.warnings)
        return Response(rendering.content, headers=headers, media_type=media_type)

    async def _answer_each(
        self,
        request: Request,
        kind: type[Options],
        classify: ClassifyImage[Options],
        read: ReadBody | None,
    ) -> tuple[Model, list[bytes]]:
        choose_media_type(request.header("accept"), [JSON_TYPE])
        content_type, limit = request.header("content-type"), self._max_request_bytes
        async with self._receive(request, content_type, limit, read) as (form, permit):
            await self._admission.yield_to_backlog()
            images, options = get_images(form), read_options(kind, form)
            del form
            model = find_model(self._repository, options.model, request)
            if isinstance(options, ExplainOptions):
                check_labels(options, model)  # an error of the request, not of one image
            add_images(request, permit, len(images), model)

            async def answer_image(image: bytes | ApiError) -> bytes:
                try:
                    if isinstance(image, ApiError):
                        raise image
                    result = await classify(image, model, options, request.timings, permit)
                    note_warnings(request, result["warnings"])
                    return await self._encode(result, options)
                except ApiError as exc:
                    if isinstance(exc, InternalError):
                        log.exception("image failed", extra=with_fields(request_id=request.id))
                    return encode_json({"error": exc.body(request.id)})

            at_once = model.batcher.rows_per_request
            answer = take_turns(answer_image, at_once, partial(request.timings.note, "queue"))
            # Encoded at once, the results of many images and labels would stop the event loop.
            return model, await asyncio.gather(*map(answer, images))

    async def _encode(self, answer: Result | JsonObject, options: PredictOptions) -> bytes:
        """Encode an answer as JSON. With pictures it is large, so a thread does it."""
        if isinstance(options, ExplainOptions) and options.view is not None:
            encode = partial(encode_json, answer)
            return await self._classifier.decoder.run_in_thread(encode, None)
        return encode_json(answer)

    def _receive_single(self, request: Request) -> UploadReception[Form]:
        """Receive one image, with what else its kind of body has."""
        content_type = request.header("content-type")
        kind = content_type.lower()
        limit = self._max_upload_bytes
        if kind.startswith(JSON_TYPE):
            limit = int(limit * BASE64_FACTOR) + FORM_OVERHEAD_BYTES
        elif kind.startswith("multipart/"):
            limit += FORM_OVERHEAD_BYTES
        return self._receive(request, content_type, min(limit, self._max_request_bytes))

    def _receive(
        self, request: Request, content_type: str, limit: int, read: ReadBody | None = None
    ) -> UploadReception[Form]:
        def read_body(body: Body) -> Form:
            return read_form(content_type, body, request.query, self._max_upload_bytes)

        raw = read is None and is_raw(content_type)
        return UploadReception(request, self._admission, limit, read or read_body, is_raw=raw)


def write_batch(model: Model, results: list[bytes]) -> Response:
    """Make the response to a call with several images."""
    head = encode_json({"model": model.name, "version": model.version})
    content = b'%b,"results":[%b]}' % (head[:-1], b",".join(results))
    return Response(content, media_type=JSON_TYPE)


def check_single_target(options: ExplainOptions) -> None:
    """Check that a picture is asked for one target alone.

    Raises:
        BadRequest: There is more than one target.
    """
    if len(options.target) > 1 or (options.target_top or 1) > 1:
        raise BadRequest(
            "A picture shows one target: ask for one, or for JSON with 'Accept: application/json'."
        )
