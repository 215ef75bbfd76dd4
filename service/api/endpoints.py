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
from service.api.image_receiver import ImageReceiver, ReadBody
from service.api.operations import INFERENCE_ERRORS, PICTURE, JsonObject, Operation
from service.api.options import read_options
from service.api.results import encode_result, join_results, make_batch_head
from service.api.routing import Endpoint
from service.api.segmentation import check_task
from service.api.upload import (
    add_images,
    find_model,
    get_images,
    get_single_image,
    note_warnings,
)
from service.errors import ApiError, BadRequest, InternalError
from service.http.form import JSON_TYPE
from service.http.negotiation import choose_media_type
from service.http.request import Request
from service.http.response import encode_json
from service.imaging.heatmap import ENCODINGS
from service.inference.admission import Admission, Permit
from service.inference.classifier import Classifier
from service.inference.explainer import Explainer, check_labels
from service.inference.image_request import ExplainRequest, ImageRequest
from service.inference.results import count_result_bytes, make_any_result
from service.inference.room import take_turns
from service.inference.segmentation.explainer import RegionExplainer, check_region_labels
from service.inference.segmentation.segmenter import Segmenter
from service.parameters import ExplainOptions, PredictOptions
from service.repository.model import Model
from service.repository.repository import Repository
from service.schemas import AnyAnswer, AnyResult, BatchAnswer
from service.telemetry.log import with_fields
from service.telemetry.timings import Timings

PICTURES = tuple(ENCODINGS)
PREDICT_ERRORS = (*INFERENCE_ERRORS, errors.NotAcceptable)
EXPLAIN_ERRORS = (*PREDICT_ERRORS, errors.UnknownLabel)

Options = TypeVar("Options", bound=PredictOptions)
MakeHead = Callable[[Model], bytes]
ClassifyImage = Callable[[bytes, Model, Options, Timings, Permit], Awaitable[AnyResult]]
log = logging.getLogger(__name__)


class ImageEndpoints:
    """`/predict` and `/gradcam`, and the same for batches."""

    def __init__(
        self,
        receiver: ImageReceiver,
        repository: Repository,
        admission: Admission,
        classifier: Classifier,
    ) -> None:
        self._receiver = receiver
        self._repository = repository
        self._admission = admission
        self._classifier = classifier
        self._segmenter = Segmenter(classifier)
        self._explainer = Explainer(classifier)
        self._region_explainer = RegionExplainer(classifier)

    def endpoints(self) -> list[Endpoint]:
        """Return this part of the route table."""
        explained = {**dict.fromkeys(PICTURES, PICTURE), JSON_TYPE: AnyAnswer}
        return [
            Endpoint("POST", "/predict", self.predict, Operation(
                "predict",
                "Return the most probable labels of one image",
                {JSON_TYPE: AnyAnswer}, PREDICT_ERRORS, ImageBody(PredictOptions),
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
        async with self._receiver.receive_single(request) as (form, permit):
            await self._admission.yield_to_backlog()
            image, options = get_single_image(form), read_options(PredictOptions, form)
            model = self._find_model(options, request)
            permit.add_answer(count_result_bytes(options, model))
            result = await self._predict(image, model, options, request.timings, permit)
            note_warnings(request, result["warnings"])
            answer: JsonObject = {"model": model.name, "version": model.version, **result}
            return Response(await encode_result(answer, options), media_type=JSON_TYPE)

    async def gradcam(self, request: Request) -> Response:
        """`POST /gradcam`: explain the prediction of one image, as a picture or in numbers."""
        media_type = choose_media_type(request.header("accept"), [*PICTURES, JSON_TYPE])
        async with self._receiver.receive_single(request) as (form, permit):
            await self._admission.yield_to_backlog()
            image, options = get_single_image(form), read_options(ExplainOptions, form)
            if media_type != JSON_TYPE:
                check_single_target(options)
            model = self._find_model(options, request)
            permit.add_answer(count_result_bytes(options, model))
            explained = ImageRequest(image, model, options, request.timings, permit)
            if media_type == JSON_TYPE:
                response = await self._explain(explained, request)
            else:
                response = await self._draw(explained, media_type, request)
        response.headers["vary"] = "Accept"
        return response

    async def predict_batch(self, request: Request) -> Response:
        """`POST /predict/batch`: predict several images."""
        return await self.predict_each(request, make_batch_head)

    async def gradcam_batch(self, request: Request) -> Response:
        """`POST /gradcam/batch`: explain several images in numbers."""
        return await self.explain_each(request, make_batch_head)

    async def predict_each(
        self, request: Request, make_head: MakeHead, read: ReadBody | None = None
    ) -> Response:
        """Answer with the predictions or the error of each image, after what `make_head` returns.

        `read` reads the body. By default it is a form or the JSON of `/predict/batch`.
        """
        return await self._answer_each(request, make_head, PredictOptions, self._predict, read)

    async def explain_each(
        self, request: Request, make_head: MakeHead, read: ReadBody | None = None
    ) -> Response:
        """Answer in the same way, with explanations."""
        return await self._answer_each(request, make_head, ExplainOptions, self._explain_one, read)

    def _find_model(self, options: PredictOptions, request: Request) -> Model:
        model = find_model(self._repository, options.model, request)
        check_task(options, model, self._repository)
        return model

    def _choose_explainer(self, model: Model) -> Explainer | RegionExplainer:
        return self._region_explainer if model.segments else self._explainer

    async def _predict(
        self,
        content: bytes,
        model: Model,
        options: PredictOptions,
        timings: Timings,
        permit: Permit,
    ) -> AnyResult:
        if model.segments:
            request = ImageRequest(content, model, options, timings, permit)
            return await self._segmenter.predict(request)
        classification = await self._classifier.classify(content, model, (), timings, permit)
        return await make_any_result(classification, model, options.top_k)

    async def _explain_one(
        self,
        content: bytes,
        model: Model,
        options: ExplainOptions,
        timings: Timings,
        permit: Permit,
    ) -> AnyResult:
        request = ImageRequest(content, model, options, timings, permit)
        return await self._choose_explainer(model).explain(request)

    async def _explain(self, explained: ExplainRequest, request: Request) -> Response:
        result = await self._choose_explainer(explained.model).explain(explained)
        note_warnings(request, result["warnings"])
        model = explained.model
        answer = {"model": model.name, "version": model.version, **result}
        return Response(await encode_result(answer, explained.options), media_type=JSON_TYPE)

    async def _draw(self, explained: ExplainRequest, media_type: str, request: Request) -> Response:
        rendering = await self._choose_explainer(explained.model).draw(explained, media_type)
        note_warnings(request, rendering.warnings)
        headers = {
            "x-model": f"{explained.model.name}/{explained.model.version}",
            "x-predicted-label": quote(rendering.predicted["label"], safe=""),
            "x-target-label": quote(rendering.target["label"], safe=""),
        }
        if (probability := rendering.target["probability"]) is not None:
            headers["x-target-probability"] = f"{probability:.6g}"
        if rendering.verification:
            headers["x-verification"] = to_json(rendering.verification).decode()
        if rendering.warnings:
            headers["x-warnings"] = ", ".join(warning["code"] for warning in rendering.warnings)
        return Response(rendering.content, headers=headers, media_type=media_type)

    async def _answer_each(
        self,
        request: Request,
        make_head: MakeHead,
        kind: type[Options],
        classify: ClassifyImage[Options],
        read: ReadBody | None,
    ) -> Response:
        choose_media_type(request.header("accept"), [JSON_TYPE])
        async with self._receiver.receive_several(request, read) as (form, permit):
            await self._admission.yield_to_backlog()
            images, options = get_images(form), read_options(kind, form)
            del form
            model = self._find_model(options, request)
            if isinstance(options, ExplainOptions):  # an error of the request, not of one image
                (check_region_labels if model.segments else check_labels)(options, model)
            add_images(request, permit, len(images), model)
            permit.add_answer(len(images) * count_result_bytes(options, model))

            async def answer_image(image: bytes | ApiError) -> bytes:
                try:
                    if isinstance(image, ApiError):
                        raise image
                    result = await classify(image, model, options, request.timings, permit)
                    note_warnings(request, result["warnings"])
                    return await encode_result(result, options)
                except ApiError as exc:
                    if isinstance(exc, InternalError):
                        log.exception("image failed", extra=with_fields(request_id=request.id))
                    return encode_json({"error": exc.body(request.id)})

            at_once = model.batcher.rows_per_request
            answer = take_turns(answer_image, at_once, partial(request.timings.note, "queue"))
            # Encoded at once, the results of many images and labels would stop the event loop.
            results = await asyncio.gather(*map(answer, images))
            return Response(await join_results(make_head(model), results), media_type=JSON_TYPE)


def check_single_target(options: ExplainOptions) -> None:
    """Check that a picture is asked for one target alone.

    Raises:
        BadRequest: There is more than one target.
    """
    if len(options.target) > 1 or (options.target_top or 1) > 1:
        raise BadRequest(
            "A picture shows one target: ask for one, or for JSON with 'Accept: application/json'."
        )
